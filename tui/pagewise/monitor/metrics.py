"""Figures of servers in Prometheus' text format, under whichever name this version of a server gives them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

MOST_LINES = 20_000
_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?[ \t]+([^ \t]+)")

DECODED = ("llamacpp:tokens_predicted_total", "vllm:generation_tokens_total", "sglang:generation_tokens_total")
DECODE_S = ("llamacpp:tokens_predicted_seconds_total",)
DECODE_GAUGE = ("llamacpp:predicted_tokens_seconds", "sglang:gen_throughput")
PROMPTED = ("llamacpp:prompt_tokens_total", "vllm:prompt_tokens_total", "sglang:prompt_tokens_total")
PROMPT_S = ("llamacpp:prompt_seconds_total",)
PROCESSING = ("llamacpp:requests_processing", "vllm:num_requests_running", "sglang:num_running_reqs")
WAITING = ("llamacpp:requests_deferred", "vllm:num_requests_waiting", "sglang:num_queue_reqs")
KV_SHARE = (
    "llamacpp:kv_cache_usage_ratio",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
)
"""From 0 to 1, whatever the name says."""
TTFT_SUM = ("vllm:time_to_first_token_seconds_sum", "sglang:time_to_first_token_seconds_sum")
TTFT_COUNT = ("vllm:time_to_first_token_seconds_count", "sglang:time_to_first_token_seconds_count")

_KINDS = (("llamacpp:", "llama-server"), ("vllm:", "vLLM"), ("sglang:", "SGLang"))


class Metrics(NamedTuple):
    """Values by name; where a name has several sets of labels, their sum."""

    values: Mapping[str, float]

    def first(self, names: tuple[str, ...]) -> float | None:
        """The value under the first of these names that is there, with or without ``_total``; None without any."""
        for name in names:
            for known in (name, name.removesuffix("_total"), f"{name}_total"):
                if known in self.values:
                    return self.values[known]
        return None

    @property
    def kind(self) -> str:
        """Which server writes such names; empty if that is not known."""
        return next((kind for prefix, kind in _KINDS if any(name.startswith(prefix) for name in self.values)), "")


def parse_metrics(text: str) -> Metrics:
    """The values of a page in Prometheus' text format; lines that are none are passed over."""
    values: dict[str, float] = {}
    for line in text.splitlines()[:MOST_LINES]:
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if math.isfinite(value):
            values[match[1]] = values.get(match[1], 0.0) + value
    return Metrics(values)
