"""The guide's exam: held-out questions, answered through the engine, scored by key facts."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli

from pagewise.client import HostClient
from pagewise.messages import ChatMessage, Finished, Generate, Load, Loaded, LoadFailed, Tokens
from pagewise.settings import Profile, Sampling

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tui" / "training" / "corpus"
HELD_OUT = Path(__file__).with_name("held_out.toml")
OUTSIDE = "unknown"


@dataclass(frozen=True)
class Question:
    """One held-out question with the key facts of the one right answer."""

    id: str
    topic: str
    ask: str
    must: tuple[tuple[str, ...], ...]
    must_not: tuple[str, ...]

    def right(self, answer: str) -> bool:
        """Whether every group of key facts is met and nothing forbidden is said."""
        text = answer.lower()
        met = all(any(fact in text for fact in group) for group in self.must)
        return met and not any(fact in text for fact in self.must_not)


def catalogue() -> dict[str, dict]:
    """The entries of the corpus by id, each with its ``topic``."""
    entries = {}
    for path in sorted(CORPUS.glob("*.toml")):
        document = tomli.loads(path.read_text())
        for entry in document["question"]:
            entries[entry["id"]] = {**entry, "topic": document["topic"]}
    return entries


def questions() -> list[Question]:
    """The exam."""
    known = catalogue()
    found = []
    for entry in tomli.loads(HELD_OUT.read_text())["question"]:
        facts = known[entry["id"]]
        must = tuple(tuple(group) for group in facts["must"])
        found.append(Question(entry["id"], facts["topic"], entry["ask"], must, tuple(facts.get("must_not", ()))))
    return found


def training_questions() -> Iterator[tuple[str, str]]:
    """(id, wording) of everything the guide is trained on."""
    for entry in catalogue().values():
        yield entry["id"], entry["ask"]
    for path in sorted((CORPUS / "wordings").glob("*.txt")):
        current = ""
        for line in path.read_text().splitlines():
            if line.startswith("# "):
                current = line[2:].strip()
            elif line.strip():
                yield current, line.strip()
    for line in (CORPUS / "unknown.txt").read_text().splitlines():
        if line.strip():
            yield OUTSIDE, line.strip()


def words(text: str) -> frozenset[str]:
    """The word set of a question."""
    return frozenset(re.findall(r"[a-z0-9_]+", text.lower()))


def likeness(a: frozenset[str], b: frozenset[str]) -> float:
    """Jaccard: shared words over all words."""
    return len(a & b) / len(a | b) if a | b else 1.0


async def answers(quant: str, asked: Iterable[str], max_tokens: int = 160) -> list[str]:
    """The guide's greedy answers at a quant level, each in a conversation of its own, through host and engine."""
    found: list[str] = []
    client = HostClient()
    await client.start()
    try:
        events = client.events()
        profile = Profile(name="exam", model="guide", quant=None if quant == "F16" else quant, n_ctx=512, probe_every=0)
        client.send(Load(1, profile))
        async for event in events:
            if isinstance(event, LoadFailed):
                raise AssertionError(f"{event.failure}")
            if isinstance(event, Loaded):
                assert quant in (event.model.quant, "F16"), event.model.quant
                assert not event.model.notes or quant == "F16", event.model.notes
                break
        sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        for number, text in enumerate(asked, start=2):
            client.send(Generate(number, (ChatMessage("user", text),), sampling))
            pieces: list[str] = []
            async for event in events:
                if isinstance(event, Tokens) and event.id == number:
                    pieces.append(event.text)
                if isinstance(event, Finished) and event.id == number:
                    assert event.failure is None, event.failure
                    break
            found.append("".join(pieces))
    finally:
        await client.close()
    return found


@dataclass(frozen=True)
class Score:
    """Right answers of all, inside and outside the guide's knowledge, and by topic (right, asked)."""

    quant: str
    inside: float
    outside: float
    topics: dict[str, tuple[int, int]]
    wrong: tuple[tuple[Question, str], ...]


def score(quant: str) -> Score:
    """Sit the exam at a quant level."""
    exam = questions()
    replies = asyncio.run(answers(quant, [question.ask for question in exam]))
    topics: dict[str, list[bool]] = defaultdict(list)
    wrong = []
    for question, reply in zip(exam, replies, strict=True):
        right = question.right(reply)
        topics[OUTSIDE if question.id == OUTSIDE else question.topic].append(right)
        if not right:
            wrong.append((question, reply))
    outside = topics[OUTSIDE]
    inside = [right for topic, marks in topics.items() if topic != OUTSIDE for right in marks]
    table = {topic: (sum(marks), len(marks)) for topic, marks in sorted(topics.items())}
    return Score(quant, sum(inside) / len(inside), sum(outside) / len(outside), table, tuple(wrong))


def main() -> None:
    """Print the score of each quant level and every wrong answer."""
    for quant in ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"):
        result = score(quant)
        print(f"{quant}: inside {result.inside:.1%}, outside {result.outside:.1%}")
        for topic, (right, asked) in result.topics.items():
            print(f"    {topic}: {right}/{asked}")
        if quant == "F16":
            for question, reply in result.wrong:
                print(f"    ✗ [{question.id}] {question.ask} → {reply[:100]}")


if __name__ == "__main__":
    main()
