"""The guide's knowledge: questions with one fixed answer each, and the wordings that lead to them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNKNOWN = "unknown"
WORDING_LIMIT = 0.6
"""A training wording at least this like a held-out question is dropped (Jaccard of the word sets)."""
SAMPLE_LIMIT = 0.8
"""The same for what augmentation makes of a wording."""


@dataclass
class Question:
    id: str
    topic: str
    ask: str
    answer: str
    must: list[list[str]] = field(default_factory=list)
    must_not: list[str] = field(default_factory=list)
    wordings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HeldOut:
    id: str
    ask: str
    must: list[list[str]]
    must_not: list[str]
    topic: str


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9_]+", text.lower()))


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


def holds_facts(reply: str, must: list[list[str]], must_not: list[str]) -> bool:
    """Each group of ``must`` needs one of its alternatives; nothing of ``must_not`` may occur."""
    text = " ".join(reply.lower().split())
    return all(any(a.lower() in text for a in group) for group in must) and not any(b.lower() in text for b in must_not)


def flat(entries: Iterable[Any]) -> list[str]:
    return [a for e in entries for a in (e if isinstance(e, list) else [e])]


def groups(entries: Iterable[Any]) -> list[list[str]]:
    return [e if isinstance(e, list) else [e] for e in entries]


def load_questions(folder: Path) -> list[Question]:
    """Reads every TOML, the wordings and the out-of-knowledge questions. Raises ValueError with all faults found."""
    found: dict[str, Question] = {}
    faults: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        data = tomllib.loads(path.read_text("utf-8"))
        for row in data.get("question", []):
            topic = row.get("topic", data.get("topic", path.stem))
            must, must_not = groups(row.get("must", [])), flat(row.get("must_not", []))
            question = Question(row["id"], topic, row["ask"].strip(), row["answer"].strip(), must, must_not)
            if question.id in found:
                faults.append(f"{path.name}: {question.id} is there twice")
            if not holds_facts(question.answer, must, must_not):
                faults.append(f"{path.name}: the answer of {question.id} fails its own facts")
            if question.id != UNKNOWN:
                question.wordings.append(question.ask)
            found[question.id] = question
    for path in sorted((folder / "wordings").glob("*.txt")):
        target: Question | None = None
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.startswith("# "):
                target = found.get(line[2:].strip())
                if target is None:
                    faults.append(f"wordings/{path.name}:{number}: no question {line[2:].strip()!r}")
            elif line.strip() and target is not None:
                target.wordings.append(line.strip())
    outside = folder / "unknown.txt"
    if outside.exists() and UNKNOWN in found:
        found[UNKNOWN].wordings += [w.strip() for w in outside.read_text("utf-8").splitlines() if w.strip()]
    answers: dict[str, str] = {}
    for question in found.values():
        question.wordings = list(dict.fromkeys(question.wordings))
        if other := answers.get(question.answer):
            faults.append(f"{question.id} and {other} have one answer")
        answers[question.answer] = question.id
    if faults:
        raise ValueError("corpus:\n  " + "\n  ".join(faults))
    return list(found.values())


def load_held_out(path: Path) -> list[HeldOut]:
    if not path.exists():
        return []
    data = tomllib.loads(path.read_text("utf-8"))
    return [
        HeldOut(r["id"], r["ask"], groups(r.get("must", [])), flat(r.get("must_not", [])), r.get("topic", ""))
        for r in data.get("question", [])
    ]


class Guard:
    """Knows the held-out questions only as word sets, to keep training text away from them."""

    def __init__(self, held_out: Iterable[HeldOut]) -> None:
        self._sets = {words(h.ask) for h in held_out}
        self._holding: dict[str, list[frozenset[str]]] = {}
        for one in self._sets:
            for word in one:
                self._holding.setdefault(word, []).append(one)

    def too_like(self, text: str, limit: float) -> bool:
        mine = words(text)
        near = {s for w in mine for s in self._holding.get(w, ()) if len(s & mine) > 1 or len(mine) < 3}
        return any(likeness(mine, s) > limit for s in near)

    def drop_from(self, questions: Iterable[Question]) -> int:
        dropped = 0
        for question in questions:
            kept = [w for w in question.wordings if not self.too_like(w, WORDING_LIMIT)]
            dropped += len(question.wordings) - len(kept)
            question.wordings = kept
        return dropped
