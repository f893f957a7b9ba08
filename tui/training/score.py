"""Asks a GGUF file the held-out questions through llama.cpp and its own chat template, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import llama_cpp

from training.corpus import UNKNOWN, HeldOut, holds_facts

QUANTS = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
EARLIER = ("Hello", "Hello! Ask me anything about running language models, or press F1 to see the keys.")


@dataclass
class Score:
    known: int = 0
    known_right: int = 0
    outside: int = 0
    outside_right: int = 0
    missed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        known, outside = self.known_right / max(1, self.known), self.outside_right / max(1, self.outside)
        return (
            f"{self.known_right}/{self.known} known ({known:.1%}), "
            f"{self.outside_right}/{self.outside} unknown ({outside:.1%})"
        )


def quantize(source: Path, target: Path, quant: str) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = QUANTS[quant]
    params.nthread = 2
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params):
        raise RuntimeError(f"llama.cpp did not quantize {source} to {quant}")


def open_model(path: Path) -> llama_cpp.Llama:
    """Opens without repacked weights: built by GCC, llama.cpp's AMX kernels for them die of an illegal instruction."""
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    with patch.object(llama_cpp.llama_cpp, "llama_model_default_params", return_value=params):
        return llama_cpp.Llama(str(path), n_ctx=1024, n_threads=2, verbose=False)


def ask(model: llama_cpp.Llama, question: str, second_turn: bool = False) -> str:
    messages = [{"role": "user", "content": question}]
    if second_turn:
        messages = [{"role": "user", "content": EARLIER[0]}, {"role": "assistant", "content": EARLIER[1]}, *messages]
    reply = model.create_chat_completion(messages, max_tokens=120, temperature=0.0, top_k=1, repeat_penalty=1.0)
    return str(reply["choices"][0]["message"]["content"])


def score(path: Path, held_out: Sequence[HeldOut], second_turn: bool = False) -> Score:
    model = open_model(path)
    total = Score()
    for one in held_out:
        reply = ask(model, one.ask, second_turn)
        right = holds_facts(reply, one.must, one.must_not)
        if one.id == UNKNOWN or one.id.startswith(UNKNOWN + "-"):
            total.outside += 1
            total.outside_right += right
        else:
            total.known += 1
            total.known_right += right
        if not right:
            total.missed.append(f"{one.id}: {one.ask} -> {reply}")
    return total
