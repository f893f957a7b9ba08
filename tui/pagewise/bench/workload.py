"""Which tests a list of prompt lengths, output lengths and depths asks for."""

from __future__ import annotations

from collections.abc import Iterable

from pagewise.jobs.bench import BenchTest


def workload(
    prompts: Iterable[int], outputs: Iterable[int], depths: Iterable[int], chat: bool = True
) -> tuple[BenchTest, ...]:
    """As llama-bench: each prompt length and each output length alone, at each depth; then each pair of them as a chat.

    A length of 0 leaves its test out.
    """
    prompts, outputs = [n for n in prompts if n], [n for n in outputs if n]
    found: list[BenchTest] = []
    for depth in depths:
        found += [BenchTest("prefill", n, 0, depth) for n in prompts]
        found += [BenchTest("decode", 0, n, depth) for n in outputs]
        if chat:
            found += [BenchTest("chat", p, n, depth) for p in prompts for n in outputs]
    return tuple(dict.fromkeys(found))


def context_for(tests: Iterable[BenchTest]) -> int:
    """Tokens of context that they need, a little rounded up."""
    needed = max((test.depth + test.n_prompt + test.n_output for test in tests), default=0)
    return max(256, -(-(needed + 1) // 256) * 256)
