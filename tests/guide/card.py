"""Writes the guide's model card: what it is, how it was trained, and its score at every quant level.

    python -m tests.guide.card LOSS_JSON REPORT_JSON

``LOSS_JSON`` and ``REPORT_JSON`` are what the training program leaves in its build folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.guide.exam import ROOT, Score, catalogue, questions, score, training_questions

from pagewise.guide.cache import provide
from pagewise.guide.files import guide_path
from pagewise.models.gguf import read_header

QUANTS = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")


def curve(losses: list[dict]) -> str:
    """The loss of batches of whole answers over steps, as a table of at most twelve rows."""
    whole = [row for row in losses if row["kind"] == "full"]
    window = max(1, len(whole) // 12)
    rows = []
    for start in range(0, len(whole) - window + 1, window):
        part = whole[start : start + window]
        mean = sum(row["loss"] for row in part) / len(part)
        marks = [row for row in losses if "begun" in row and row["step"] <= part[-1]["step"]]
        kept = f"{100 * marks[-1]['begun']:.0f} %" if marks else "–"
        rows.append(f"| {part[-1]['step']} | {part[-1]['seconds'] / 60:.0f} min | {mean:.2f} | {kept} |")
    return "\n".join(rows)


def table(scores: list[Score]) -> str:
    """Right answers by topic and quant."""
    lines = ["| topic | " + " | ".join(entry.quant for entry in scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for topic in scores[0].topics:
        cells = [f"{entry.topics[topic][0]}/{entry.topics[topic][1]}" for entry in scores]
        name = "outside its knowledge" if topic == "unknown" else topic
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| **inside, all** | " + " | ".join(f"**{100 * entry.inside:.1f} %**" for entry in scores) + " |")
    lines.append("| **outside** | " + " | ".join(f"**{100 * entry.outside:.1f} %**" for entry in scores) + " |")
    return "\n".join(lines)


def sizes() -> str:
    """Bytes and bits per weight of each level."""
    lines = []
    for quant in QUANTS:
        path = guide_path() if quant == "F16" else provide(quant, _made)[0]
        header = read_header(path)
        weights = sum(tensor.n_weights for tensor in header.tensors)
        stored = sum(tensor.bytes for tensor in header.tensors)
        lines.append(f"| {quant} | {path.stat().st_size / 1e6:.2f} MB | {8 * stored / weights:.2f} |")
    return "\n".join(lines)


def _made(source: Path, target: Path, quant: str) -> None:
    raise AssertionError(f"{quant} should have been made by the exam before")


def main() -> None:
    """Sit the exam at every level and write docs/guide-card.md."""
    training = json.loads(Path(sys.argv[1]).read_text())
    report = json.loads(Path(sys.argv[2]).read_text())
    scores = [score(quant) for quant in QUANTS]
    header = read_header(guide_path())
    shape, plan, agreement = training["shape"], training["plan"], report["agreement"]
    last = training["curve"][-1]
    wordings = sum(1 for _ in training_questions())
    exam = questions()
    n_outside = sum(1 for question in exam if question.id == "unknown")
    n_weights = sum(tensor.n_weights for tensor in header.tensors)
    card = f"""# The guide: model card

The small language model that ships with pagewise. It answers newcomers' questions about running language models, and
about pagewise itself; it knows nothing else and says so.

| | |
|---|---|
| architecture | llama: {shape["layers"]} layers, {shape["width"]} wide, feed-forward {shape["inner"]}, {shape["heads"]} heads on \
{shape["kv_heads"]} KV heads, tied embeddings |
| parameters | {n_weights:,} |
| tokenizer | byte-level BPE, {shape["vocab"]} tokens, trained on its own corpus |
| context | {shape["context"]} tokens |
| licence | MIT |
| corpus | written for this project: {len(catalogue())} questions with one answer each, {wordings:,} wordings |
| training | from scratch, fixed seed, {last["step"]} steps of {plan["tokens"]} tokens, {last["seconds"] / 60:.0f} minutes on one \
thread of a shared two-core machine |

`make guide` trains it again on the CPU and puts it into the package; PyTorch is a need of that command alone.

## Score

Held-out questions, written before the training wordings and never used for training: {len(exam) - n_outside} inside its
knowledge, {n_outside} outside. None shares more than 0.6 of its word set (Jaccard) with a training question, the texts that
training makes of the wordings on the fly included. Greedy decoding through pagewise's own engine; an answer is right if
every group of key facts occurs and nothing forbidden does. The test `tests/guide/test_exam.py` holds the shipped file to 90 % (F16, Q8_0), 80 % (Q4_K_M) and 80 % outside.

{table(scores)}

| level | file | bits per weight |
|---|---|---|
{sizes()}

## Agreement of PyTorch and llama.cpp

Token ids equal on {agreement["ids_equal"]} of {agreement["texts"]} texts; the same top-1 on {100 * agreement["top1"]:.1f} % of
{agreement["positions"]} positions; largest difference of a logit {agreement["largest_difference"]:.4f}.

## Loss

Mean over batches of whole answers, and the share of wordings kept back from training whose answer begins right. (Label
smoothing of {plan["smoothing"]} and augmented wordings keep the loss from falling further.)

| step | time | loss | kept-back wordings |
|---|---|---|---|
{curve(training["curve"])}

## Limits

It has one fixed answer to each question and cannot compute, reason or hold a thread: a question that needs two facts gets
one. Where a figure depends on the machine, it names the gauge that shows it. It is English only.
"""
    (ROOT / "docs" / "guide-card.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
