"""``pagewise report``: a record as one HTML page, and as tables."""

from __future__ import annotations

from pathlib import Path

from pagewise.app.visible import visible_line
from pagewise.atomic import write_atomically
from pagewise.messages import Failure
from pagewise.record.format import RecordError
from pagewise.record.reader import Record
from pagewise.record.report.page import BEGINNING, page
from pagewise.record.report.summary import summarize
from pagewise.record.report.tables import tables


def run(file: Path, out: Path | None, csv: Path | None) -> list[str]:
    """Write the page, and the tables into folder ``csv``; what was written, a line each. Raises RecordError."""
    out = out or file.with_name(file.name.removesuffix(".pwr") + ".html")
    with Record(file) as record:
        if len(record) == 0:
            raise RecordError(
                Failure("There is nothing to report", f"{file} holds no reading yet.", record.remark or "Record again.")
            )
        summary = summarize(record)
        made = {out: (page(record, summary), BEGINNING)}
        if csv is not None:
            for name, text in tables(summary).items():
                made[csv / name] = (text, text.partition("\n")[0])
        remark = record.remark
    for path, (_, beginning) in made.items():
        _check(path, beginning)
    lines = [visible_line(remark)] if remark else []
    for path, (text, _) in made.items():
        _write(path, text)
        lines.append(f"wrote {visible_line(str(path))}")
    return lines


def _check(path: Path, beginning: str) -> None:
    """Raises RecordError where ``path`` is a file that no report wrote: it is not replaced."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(beginning.encode()))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(_not_written(path, error)) from error
    if begins != beginning.encode():
        raise RecordError(
            Failure(
                "The report is not written",
                f"{path} is there already and is none of pagewise's reports.",
                "Give --out or --csv another name, or remove that file.",
            )
        )


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise RecordError(_not_written(path, error)) from error


def _not_written(path: Path, error: OSError) -> Failure:
    return Failure(
        "The report cannot be written",
        f"{path}: {error.strerror}.",
        "Give --out or --csv a place that can be written to.",
    )
