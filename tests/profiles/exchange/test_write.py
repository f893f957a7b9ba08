from __future__ import annotations

import configparser

import pytest

from pagewise.profiles.errors import ProfileError
from pagewise.profiles.exchange.write import TARGETS, export
from pagewise.profiles.files import load_all
from pagewise.settings import Lora, Profile, Sampling

FULL = Profile(
    name="big moe",
    description="all of it",
    model="/models/a b.gguf",
    n_gpu_layers="fit",
    fit_margin="512MiB",
    tensor_overrides=("ffn_.*_exps=CPU",),
    cache_type_k="q8_0",
    lora=(Lora("/l.gguf"), Lora("/m.gguf", 0.5)),
    idle_unload="10m",
    system_prompt='be "brief"\nplease',
    sampling=Sampling(stop=("\n\n", "x;y"), seed=7),
)


@pytest.mark.parametrize("to", TARGETS)
def test_every_shipped_profile_can_be_exported(to: str) -> None:
    for profile in load_all().profiles.values():
        assert "/guide.gguf" in export(profile, to, "/guide.gguf")


def test_fit_is_left_to_llama_server_with_its_margin() -> None:
    written = export(FULL, "llama-server", FULL.model)
    assert "--n-gpu-layers auto" in written and "--fit on" in written and "--fit-target 512" in written
    assert "--model '/models/a b.gguf'" in written


def test_a_modelfile() -> None:
    written = export(FULL, "ollama", FULL.model)
    lines = [line for line in written.splitlines() if not line.startswith("#")]
    assert lines[0] == "FROM /models/a b.gguf"
    assert "PARAMETER seed 7" in lines and not any("num_gpu" in line for line in lines)
    assert 'ADAPTER """/l.gguf"""' in lines
    assert written.endswith('SYSTEM """be "brief"\nplease"""\n')
    comments = "\n".join(line for line in written.splitlines() if line.startswith("#"))
    for words in ("OLLAMA_KV_CACHE_TYPE", "OLLAMA_KEEP_ALIVE", "tensor_overrides", "/m.gguf"):
        assert words in comments


def test_a_text_that_a_modelfile_cannot_hold_is_listed() -> None:
    profile = Profile(name="t", model="/m.gguf", system_prompt='say """ now')
    written = export(profile, "ollama", "/m.gguf")
    assert "SYSTEM" not in written and "# " in written and "system_prompt" in written


def test_llama_swap_unloads_by_itself_and_gives_the_port() -> None:
    written = export(FULL, "llama-swap", FULL.model)
    assert '  "big moe":\n    description: "all of it"\n    ttl: 600\n    cmd: |\n' in written
    assert "llama-server --port ${PORT}" in written and "--sleep-idle-seconds" not in written


def test_a_preset_is_an_ini_file() -> None:
    written = export(FULL, "router-ini", FULL.model)
    parser = configparser.ConfigParser(comment_prefixes=(";",), interpolation=None)
    parser.read_string(written.replace("version = 1\n", ""))
    section = parser["big moe"]
    assert section["model"] == "/models/a b.gguf" and section["repack"] == "false" and section["parallel"] == "1"
    assert "x;y" in written.split("version")[0]


@pytest.mark.parametrize(
    ("to", "model"), [("llama-server", "/a\nb.gguf"), ("llama-swap", "/${x}.gguf"), ("router-ini", "/a;b.gguf")]
)
def test_a_path_that_cannot_be_written_is_refused(to: str, model: str) -> None:
    with pytest.raises(ProfileError) as caught:
        export(FULL, to, model)
    assert "cannot be exported" in caught.value.failure.what


def test_control_characters_of_a_profile_never_reach_the_text() -> None:
    profile = Profile(name="t", description="a\x1b[31m\nrm -rf", model="/m.gguf", system_prompt="\x1b]0;x\x07")
    for to in TARGETS:
        written = export(profile, to, "/m.gguf")
        assert "\x1b" not in written and "\nrm" not in written
