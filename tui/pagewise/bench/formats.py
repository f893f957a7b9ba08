"""Results of the yardstick as JSON with llama-bench's field names, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from typing import Any

from pagewise.bench.spread import Ratio, Spread, paired_ratio, spread
from pagewise.jobs.bench import Benched, BenchRow, BenchTest
from pagewise.jobs.measure import Measured
from pagewise.models.gguf import printable

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}
_NO_GPU = ("CPU", "BLAS")


def title(test: BenchTest) -> str:
    """The test as llama-bench calls it (``pp512``, ``tg128 @ d4096``); a chat as ``chat 512+128``."""
    size = {
        "prefill": f"pp{test.n_prompt}",
        "decode": f"tg{test.n_output}",
        "chat": f"chat {test.n_prompt}+{test.n_output}",
    }[test.test]
    return size + (f" @ d{test.depth}" if test.depth else "")


def rates(row: BenchRow) -> Spread | None:
    """Tokens a second: of the prompt, or of the output; of a chat those of its output behind the first token."""
    return spread([rate for rate in map(_rate, row.samples) if rate])


def _rate(sample: Measured) -> float | None:
    return sample.prefill_rate if sample.n_output == 0 else 1000 / sample.tpot_ms if sample.tpot_ms else None


def ratio(result: Benched, row: BenchRow) -> Ratio | None:
    """The rate beside the first profile's in the same test; of profiles that were not measured in turns no interval."""
    first = next((each for each in result.rows if each.model == 0 and each.test == row.test), None)
    if first is None:
        return None
    ours, theirs = rates(row), rates(first)
    if ours is None or theirs is None:
        return None
    if result.in_turns and row.model:
        pairs = [(_rate(a) or 0.0, _rate(b) or 0.0) for a, b in zip(row.samples, first.samples, strict=True)]
        return paired_ratio(*zip(*pairs, strict=True))
    return Ratio(ours.median / theirs.median, 0.0, float("inf"))


def ttfts(row: BenchRow) -> Spread | None:
    """Times to the first token in ms; None but of a chat."""
    return spread([sample.ttft_ms for sample in row.samples if sample.ttft_ms is not None])


def tpots(row: BenchRow) -> Spread | None:
    """Times of one more token in ms; None of a prefill."""
    return spread([sample.tpot_ms for sample in row.samples if sample.tpot_ms is not None])


def as_records(result: Benched) -> list[dict[str, Any]]:
    """One object a test, with llama-bench's names where they mean the same."""
    return [_record(result, row) for row in result.rows]


def _record(result: Benched, row: BenchRow) -> dict[str, Any]:
    model, test = result.models[row.model], row.test
    profile = model.profile
    times = [time for time in map(_whole_ns, row.samples) if time]
    speeds = [1e9 * (test.n_prompt + test.n_output) / time for time in times]
    taken, speed = spread([float(time) for time in times]), spread(speeds)
    ttft, tpot = ttfts(row), tpots(row)
    beside = ratio(result, row) if len(result.models) > 1 else None
    return {
        "cpu_info": result.cpu,
        "gpu_info": ", ".join(device for device in result.devices if not device.startswith(_NO_GPU)),
        "model_filename": model.path,
        "model_type": f"{model.architecture} {model.quant}",
        "model_size": model.weight_bytes,
        "model_n_params": model.n_params,
        "n_batch": model.n_batch,
        "n_ubatch": model.n_ubatch,
        "n_threads": model.threads_batch if test.test == "prefill" else model.threads,
        "type_k": profile.cache_type_k,
        "type_v": profile.cache_type_v,
        "n_gpu_layers": model.offloaded_layers,
        "split_mode": profile.split_mode,
        "main_gpu": profile.main_gpu,
        "flash_attn": _FLASH_ATTENTION[profile.flash_attention],
        "tensor_split": "/".join(f"{share:.2f}" for share in profile.tensor_split) or "0.00",
        "tensor_buft_overrides": ";".join(profile.tensor_overrides) or "none",
        "load_mode": profile.load_mode,
        "repack": model.repacked,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_output,
        "n_depth": test.depth,
        "test_time": datetime.fromtimestamp(row.began_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "avg_ns": round(taken.mean) if taken else None,
        "stddev_ns": round(taken.deviation) if taken else None,
        "avg_ts": speed.mean if speed else None,
        "stddev_ts": speed.deviation if speed else None,
        "samples_ns": times,
        "samples_ts": speeds,
        "profile": profile.name,
        "test": test.test,
        "llama_cpp": result.llama_cpp,
        "n_threads_batch": model.threads_batch,
        "has_flash_attention": model.flash_attention,
        "median_ts": speed.median if speed else None,
        "ttft_ms": ttft.median if ttft else None,
        "tpot_ms": tpot.median if tpot else None,
        "ratio": beside.value if beside else None,
        "ratio_low": beside.low if beside and beside.low else None,
        "ratio_high": beside.high if beside and beside.low else None,
        "load_ms": model.load_ms,
        "cold_first_token_ms": model.cold_first_token_ms,
        "drift": row.drift,
        "other_load_cores": row.other_load,
        "discarded": row.discarded,
    }


def _whole_ns(sample: Measured) -> int | None:
    """Of a chat with its first token, as llama-bench takes a prompt with an answer."""
    if sample.ttft_ns is not None:
        return sample.ttft_ns + (sample.decode_ns or 0)
    return sample.decode_ns if sample.prefill_ns is None else sample.prefill_ns


def as_csv(result: Benched) -> str:
    """The same records, lists left out, and control characters of names shown as such."""
    records = [
        {
            key: printable(value) if isinstance(value, str) else value
            for key, value in record.items()
            if not isinstance(value, list)
        }
        for record in as_records(result)
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def table(result: Benched) -> tuple[list[str], list[list[str]]]:
    """Head and cells; with several profiles, each rate beside the first profile's as a ratio, with its interval."""
    many = len(result.models) > 1
    head = ["profile", "model", "test", "tok/s", "±", "TTFT ms", "TPOT ms"] + (["ratio", "95 %"] if many else [])
    cells = []
    for row in result.rows:
        model, rate, ttft, tpot = result.models[row.model], rates(row), ttfts(row), tpots(row)
        line = [
            model.profile.name,
            f"{model.name} {model.quant}",
            title(row.test),
            f"{rate.median:.2f}" if rate else "n/a",
            f"{100 * rate.share:.1f} %" if rate else "",
            f"{ttft.median:.1f}" if ttft else "",
            f"{tpot.median:.2f}" if tpot else "",
        ]
        if many:
            beside = ratio(result, row)
            line.append(f"{beside.value:.3f}" if beside else "")
            line.append(f"{beside.low:.3f} … {beside.high:.3f}" if beside and beside.low else "")
        cells.append(line)
    return head, cells


def as_markdown(result: Benched) -> str:
    """A table for a forum or an issue, with what it was measured on and what makes it less sure."""
    head, cells = table(result)
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *cells]
    lines = ["| " + " | ".join(printable(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", printable(f"{result.cpu}; llama.cpp {result.llama_cpp}")]
    lines += [f"- {printable(note)}" for note in result.notes]
    return "\n".join(lines) + "\n"
