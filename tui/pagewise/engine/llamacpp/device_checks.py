"""What a profile asks of devices, held against those that are there."""

from __future__ import annotations

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp import library
from pagewise.settings import Profile


def device_notes(profile: Profile) -> list[str]:
    """What has no effect here, a sentence each. Raises Failed for what names a device that is not there."""
    found = [device.name for device in library.accelerators()]
    there = ", ".join(found)
    if not found:
        asked = [
            text
            for key, text in (
                (isinstance(profile.n_gpu_layers, int) and profile.n_gpu_layers, "n_gpu_layers"),
                (profile.tensor_split, "tensor_split"),
                (profile.main_gpu, "main_gpu"),
            )
            if key
        ]
        if not asked:
            return []
        verb = "has" if len(asked) == 1 else "have"
        return [f"{' and '.join(asked)} {verb} no effect: llama.cpp found no GPU here that it can use."]
    if profile.tensor_split and len(profile.tensor_split) != len(found):
        raise Failed(
            "tensor_split has the wrong length",
            f"It has {len(profile.tensor_split)} shares; this machine has {len(found)} GPUs: {there}.",
            "Give one share for each GPU, 0 for one that is to take nothing, or leave tensor_split out.",
        )
    if profile.main_gpu >= len(found):
        if profile.split_mode in ("none", "row"):
            raise Failed(
                f"There is no GPU number {profile.main_gpu}",
                f"They are counted from 0, and there are {len(found)}: {there}.",
                "Correct main_gpu in the profile.",
            )
        return [f"main_gpu = {profile.main_gpu} has no effect: there is no such GPU, and layers are split."]
    return []
