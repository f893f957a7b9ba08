"""Results of the yardstick as JSON with llama-bench's field names, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from pagewise.bench.spread import Spread, spread
from pagewise.jobs.bench import Benched, BenchRow, BenchTest


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
    if row.test.test == "prefill":
        return spread([sample.prefill_rate for sample in row.samples if sample.prefill_rate])
    return spread([1000 / sample.tpot_ms for sample in row.samples if sample.tpot_ms])


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
    times = [sample.prefill_ns if test.test == "prefill" else sample.decode_ns for sample in row.samples]
    taken = spread([float(time) for time in times if time])
    rate, ttft, tpot = rates(row), ttfts(row), tpots(row)
    return {
        "cpu_info": result.cpu,
        "gpu_info": ", ".join(result.devices),
        "model_filename": model.path,
        "model_type": f"{model.architecture} {model.quant}",
        "model_size": model.file_bytes,
        "model_n_params": model.n_params,
        "n_batch": model.n_batch,
        "n_ubatch": model.n_ubatch,
        "n_threads": model.threads_batch if test.test == "prefill" else model.threads,
        "type_k": profile.cache_type_k,
        "type_v": profile.cache_type_v,
        "n_gpu_layers": model.offloaded_layers,
        "split_mode": profile.split_mode,
        "main_gpu": profile.main_gpu,
        "flash_attn": model.flash_attention,
        "tensor_split": "/".join(f"{share:.2f}" for share in profile.tensor_split),
        "tensor_buft_overrides": ";".join(profile.tensor_overrides),
        "load_mode": profile.load_mode,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_output,
        "n_depth": test.depth,
        "avg_ns": taken.mean if taken else None,
        "stddev_ns": taken.deviation if taken else None,
        "avg_ts": rate.mean if rate else None,
        "stddev_ts": rate.deviation if rate else None,
        "samples_ns": [time for time in times if time],
        "profile": profile.name,
        "test": test.test,
        "llama_cpp": result.llama_cpp,
        "n_threads_batch": model.threads_batch,
        "median_ts": rate.median if rate else None,
        "ttft_ms": ttft.median if ttft else None,
        "tpot_ms": tpot.median if tpot else None,
        "load_ms": model.load_ms,
        "cold_first_token_ms": model.cold_first_token_ms,
        "drift": row.drift,
        "other_load_cores": row.other_load,
        "discarded": row.discarded,
    }


def as_csv(result: Benched) -> str:
    """The same records, lists left out."""
    records = [{key: value for key, value in record.items() if key != "samples_ns"} for record in as_records(result)]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def table(result: Benched) -> tuple[list[str], list[list[str]]]:
    """Head and cells; with several profiles, each rate beside the first profile's as a ratio."""
    many = len(result.models) > 1
    head = ["profile", "model", "test", "tok/s", "±", "TTFT ms", "TPOT ms"] + (["ratio"] if many else [])
    first = {row.test: rates(row) for row in result.rows if row.model == 0}
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
            base = first.get(row.test)
            line.append(f"{rate.median / base.median:.3f}" if rate and base else "")
        cells.append(line)
    return head, cells


def as_markdown(result: Benched) -> str:
    """A table for a forum or an issue."""
    head, cells = table(result)
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
