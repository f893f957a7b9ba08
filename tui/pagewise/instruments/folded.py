"""Folded stacks: one stack a line, root first, frames joined by ``;``, then a blank and the number of samples."""

from __future__ import annotations

import re
from collections import Counter

_THREAD = re.compile(r"^thread \((\d+)\)")


def thread_ids(folded: str) -> frozenset[int]:
    """The threads that py-spy's stacks begin with."""
    return frozenset(int(match[1]) for match in map(_THREAD.match, folded.splitlines()) if match)


def fold_perf(script: str) -> str:
    """What ``perf script -F comm,tid,ip,sym,dso`` printed, folded. There the leaf is first, and stacks are apart by
    blank lines.
    """
    stacks: Counter[str] = Counter()
    thread = ""
    frames: list[str] = []
    for line in [*script.splitlines(), ""]:
        if not line.strip():
            if thread and frames:
                stacks[";".join([thread, *reversed(frames)])] += 1
            thread, frames = "", []
        elif line[0].isspace() and thread:
            frames.append(_frame(line.strip()))
        elif not thread:
            name, _, number = line.strip().rpartition(" ")
            thread = f"thread ({number}): {_safe(name.strip())}"
    return "".join(f"{stack} {count}\n" for stack, count in stacks.most_common())


def _frame(line: str) -> str:
    _, _, rest = line.partition(" ")
    name, bracket, library = rest.rpartition(" (")
    if not bracket:
        return _safe(rest)
    return _safe(f"{name.rpartition('+0x')[0] or name} ({library}")


def _safe(text: str) -> str:
    return text.replace(";", ":")
