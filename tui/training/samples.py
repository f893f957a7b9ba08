"""Training batches. Each is a pure function of seed and step, so a resumed run sees what an unbroken one would."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from training.augment import augment, nonsense
from training.corpus import SAMPLE_LIMIT, UNKNOWN, Guard, Question
from training.tokenizer import Encoder

SYSTEM_LINES = [
    "You are a helpful assistant.", "You are the guide of pagewise.", "Answer briefly.", "Be concise and friendly.",
    "You are an assistant that answers questions about running language models.", "Reply in plain English.",
    "You are a helpful, honest assistant. Answer in one or two sentences.", "Today is Monday.", "Always be polite.",
]  # fmt: skip
TAIL_WEIGHT = 0.6
"""Weight of an answer's tokens after the point where no other answer begins the same way."""
QUESTION_WEIGHT = 0.1


@dataclass(frozen=True)
class Kind:
    """``short``: one turn, the answer cut soon after it is decided. ``full``: one whole turn. ``talk``: several."""

    name: str
    length: int
    rows: int
    turns: int
    scored: float
    """Part of the positions whose logits are computed."""


@dataclass(frozen=True)
class Batch:
    kind: Kind
    ids: Tensor
    where: Tensor
    target: Tensor
    weight: Tensor
    asked_at: Tensor
    intent: Tensor


def decided_at(answers: Sequence[Sequence[int]]) -> list[int]:
    """For each answer, the length of the shortest beginning that no other answer has."""
    count: dict[tuple[int, ...], int] = {}
    for a in answers:
        for n in range(1, len(a) + 1):
            count[tuple(a[:n])] = count.get(tuple(a[:n]), 0) + 1
    return [next((n for n in range(1, len(a) + 1) if count[tuple(a[:n])] == 1), len(a)) for a in answers]


class Sampler:
    def __init__(
        self,
        questions: Sequence[Question],
        encoder: Encoder,
        guard: Guard,
        tokens: int,
        seed: int,
        strength: float = 1.0,
    ) -> None:
        self.encoder, self.guard, self.seed, self.strength = encoder, guard, seed, strength
        self.questions = [q for q in questions if q.wordings]
        self.answers = [encoder.answer(q.answer) for q in self.questions]
        self.decided = decided_at(self.answers)
        self.fingerprint = hashlib.sha256(
            repr((self.answers, [q.wordings for q in self.questions])).encode()
        ).hexdigest()
        self.outside = next((i for i, q in enumerate(self.questions) if q.id == UNKNOWN), -1)
        longest = max(len(a) for a in self.answers)
        full = math.ceil((longest + 30) / 16) * 16
        talk = math.ceil((longest * 1.75 + 40) / 16) * 16
        self.short = Kind("short", 32, tokens // 32, 1, 0.55)
        self.full = Kind("full", full, tokens // full, 1, 0.75)
        self.talk = Kind("talk", talk, tokens // talk, 2, 0.75)
        self.odds = np.array([len(q.wordings) ** 0.3 for q in self.questions])
        self.odds /= self.odds.sum()
        if self.outside >= 0:
            self.odds *= 0.9
            self.odds[self.outside] = 0.1

    def kind_of(self, step: int) -> Kind:
        return {1: self.full, 3: self.full, 5: self.full, 7: self.talk, 9: self.full}.get(step % 10, self.short)

    def batch(self, step: int) -> Batch:
        rng = Random(f"{self.seed}/{step}")
        kind = self.kind_of(step)
        odds = np.cumsum(self.odds)
        ids = np.full((kind.rows, kind.length + 1), self.encoder.end, dtype=np.int64)
        weight = np.zeros((kind.rows, kind.length + 1), dtype=np.float32)
        asked = np.zeros((kind.rows, kind.turns), dtype=np.int64)
        intent = np.full((kind.rows, kind.turns), -100, dtype=np.int64)
        for row in range(kind.rows):
            tokens: list[int] = []
            marks: list[float] = []
            if rng.random() < 0.1 and kind is not self.short:
                tokens += self.encoder.system_line(rng.choice(SYSTEM_LINES))
                marks += [0.0] * len(tokens)
            for turn in range(kind.turns):
                which = min(int(np.searchsorted(odds, rng.random() * odds[-1])), len(self.questions) - 1)
                answer = self.answers[which]
                decided = self.decided[which]
                least = min(decided + 2, len(answer))
                asking = self.asking(which, kind.length + 1 - len(tokens) - least, rng)
                if not asking:
                    break
                asked[row, turn] = len(tokens) + len(asking) - 1
                intent[row, turn] = which
                scores = [1.0 if n <= decided else TAIL_WEIGHT for n in range(len(answer))]
                if kind is self.short:
                    answer = answer[: decided + 3]
                elif turn == 0 and kind is self.talk and rng.random() < 0.1:
                    # A stopped reply: something to read past, not something to learn.
                    answer = [*answer[: rng.randrange(3, len(answer))], self.encoder.end]
                    scores = [0.0] * len(answer)
                marks += [0.0] + [QUESTION_WEIGHT] * (len(asking) - 2) + [0.0] + scores[: len(answer)]
                tokens += asking + answer
            tokens, marks = tokens[: kind.length + 1], marks[: kind.length + 1]
            ids[row, : len(tokens)] = tokens
            weight[row, : len(tokens)] = marks
        return self._gather(kind, ids, weight, asked, intent, rng)

    def asking(self, which: int, room: int, rng: Random) -> list[int]:
        for _ in range(5):
            ids = self.encoder.question(self.wording(which, rng), loose=rng.random() < 0.3)
            if len(ids) <= room:
                return ids
        return []

    def wording(self, which: int, rng: Random) -> str:
        question = self.questions[which]
        if which == self.outside and rng.random() < 0.06:
            return augment(nonsense(rng), rng, self.strength, in_domain=False)
        for _ in range(4):
            base = rng.choice(question.wordings)
            text = augment(base, rng, self.strength, which != self.outside)
            if not self.guard.too_like(text, SAMPLE_LIMIT):
                return text
        return base

    def _gather(
        self,
        kind: Kind,
        ids: np.ndarray,
        weight: np.ndarray,
        asked: np.ndarray,
        intent: np.ndarray,
        rng: Random,
    ) -> Batch:
        """Keeps a fixed number of scored positions: all of the answers first, then as many of the questions."""
        flat = weight[:, 1:].reshape(-1)
        noise = np.random.default_rng(rng.getrandbits(32)).random(flat.shape)
        count = int(flat.size * kind.scored)
        where = np.sort(np.argpartition(-(np.minimum(flat, 0.2) + noise * 1e-3), count)[:count])
        return Batch(
            kind,
            torch.from_numpy(ids[:, :-1].copy()),
            torch.from_numpy(where),
            torch.from_numpy(ids[:, 1:].reshape(-1)[where]),
            torch.from_numpy(flat[where]),
            torch.from_numpy((asked + np.arange(kind.rows)[:, None] * kind.length).reshape(-1)),
            torch.from_numpy(intent.reshape(-1)),
        )
