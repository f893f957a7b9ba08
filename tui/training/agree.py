"""Holds the GGUF file in llama.cpp against the network in PyTorch: token ids, likeliest tokens, logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import torch

from training.model import Guide
from training.tokenizer import Encoder

TEXTS = [
    "What is the KV cache?", "  two  spaces   and a tab\tthen\nnewlines\n\n\nthree ", "it's we're I'll they'd CAN'T",
    "def f(x: int) -> str:\n    return f'{x:>8}' # café\n", "Größe naïve Ελληνικά русский 日本語 한국어 العربية हिन्दी",
    "emoji 🙂👩‍👩‍👧 and ½ ² Ⅷ ٣ １２", "q4_k_m Q5_0 12345 3.14 1e-9 0xFF 16GB", "a\r\nb\u00a0c\u2003d\u200be",
    "!!! ??? ... --set n_ctx=4096 <|notatoken|> $x && y || z;", "ctrl+o, F1/F3 & <Esc>", "", " ", "\n", "x" * 300,
]  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    texts: int
    ids_equal: int
    positions: int
    top1: float
    largest_difference: float

    @property
    def holds(self) -> bool:
        return self.ids_equal == self.texts and self.top1 >= 0.99 and self.largest_difference < 0.25


def agree(guide: Guide, encoder: Encoder, path: Path, texts: Sequence[str], conversation: Sequence[int]) -> Agreement:
    """``conversation`` is what the logits are compared on, position by position."""
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=2, logits_all=True, verbose=False)
    checked = [*TEXTS, *texts]
    equal = sum(model.tokenize(t.encode(), add_bos=False, special=False) == encoder.text(t) for t in checked)
    whole = encoder.question("What is this?")
    rendered = "<|user|> What is this?<|end|><|guide|>"
    equal += model.tokenize(rendered.encode(), add_bos=True, special=True) == whole
    ids = list(conversation)[:1000]
    model.eval(ids)
    theirs = model.scores[: len(ids)]
    half = Guide(guide.shape)
    half.load_state_dict({n: v.half().float() if v.dim() == 2 else v for n, v in guide.state_dict().items()})
    with torch.no_grad():
        ours = half.eval()(torch.tensor([ids]))[0].numpy()
    top1 = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    return Agreement(len(checked) + 1, equal, len(ids), top1, float(np.abs(ours - theirs).max()))
