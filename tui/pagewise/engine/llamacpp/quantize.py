"""Making another quant of a model."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from llama_cpp import llama_cpp

from pagewise.engine.failures import Failed
from pagewise.engine.llamacpp.cores import physical_cores
from pagewise.engine.llamacpp.log import log
from pagewise.models.gguf import printable
from pagewise.models.quant import FILE_TYPE_BY_NAME

_INTERVAL_S = 0.2


def quantize(source: Path, target: Path, quant: str, progress: Callable[[int], None] | None = None) -> None:
    """Write ``source`` as ``quant`` (such as ``Q4_K_M``) to ``target``, which appears only when it is whole.

    ``progress`` gets the bytes written so far: a few times a second on another thread, and at the end.
    Raises Failed, and OSError where the folder cannot be written to.
    """
    kind = FILE_TYPE_BY_NAME.get(quant)
    if kind is None:
        raise Failed(
            f"There is no quant level {printable(quant)!r}",
            f"llama.cpp knows {', '.join(FILE_TYPE_BY_NAME)}.",
            "Choose one of these, such as Q4_K_M.",
        )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    unfinished = Path(name)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = kind
    params.nthread = physical_cores()
    mark = log.mark()
    try:
        with _Watch(unfinished, progress):
            result = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(name), params)
        if result != 0:
            raise Failed(
                f"{printable(source.name)} could not be quantized to {quant}",
                f"llama.cpp says: {log.reason(mark) or f'code {result}'}.",
                "Check that the source is F16, BF16 or F32, and that the disk has room.",
            )
        if progress is not None:
            progress(unfinished.stat().st_size)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


class _Watch:
    """Reports the size of a growing file until it is left."""

    def __init__(self, path: Path, progress: Callable[[int], None] | None) -> None:
        self._path, self._progress = path, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quantize progress", daemon=True)

    def __enter__(self) -> None:
        if self._progress is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._progress is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._progress is not None
        while not self._over.wait(_INTERVAL_S):
            try:
                self._progress(self._path.stat().st_size)
            except OSError:
                return
