"""What this build of llama.cpp can do: an engine is started, says hello, and is ended."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pagewise.app.visible import visible_line
from pagewise.doctor.findings import Finding
from pagewise.messages import EngineHello, FrameError, FrameReader, Hello, decode_event, encode

BACKENDS = "CUDA (NVIDIA), METAL (Apple), HIP (AMD), VULKAN (any GPU with a Vulkan driver)"
_TIMEOUT_S = 60.0
_COMMAND = (sys.executable, "-m", "pagewise.engine")


def findings(has_gpu: bool, command: tuple[str, ...] = _COMMAND) -> list[Finding]:
    """The build's version, instruction sets and devices, and how to build it for others."""
    hello = ask_engine(command)
    if isinstance(hello, str):
        fix = "Install pagewise again, on this machine, so that llama.cpp is built for its processor."
        return [Finding("llama.cpp", "library", "fail", hello, fix)]
    accelerators = [name for name in hello.devices if not name.startswith("CPU")]
    devices = ", ".join(visible_line(name) for name in hello.devices) or "none"
    blind = has_gpu and not accelerators
    return [
        Finding("llama.cpp", "library", "ok", visible_line(hello.llama_cpp)),
        Finding("llama.cpp", "uses", "ok", _features(hello.system_info)),
        Finding(
            "llama.cpp",
            "devices",
            "warn" if blind else "ok" if accelerators else "note",
            f"{devices}{': there is a GPU that this build cannot use' if blind else ''}",
            "Build llama.cpp for it, see below." if blind else "",
        ),
        Finding("llama.cpp", "builds for GPUs", "note", BACKENDS, _REBUILD),
    ]


_REBUILD = (
    'In a checkout: CMAKE_ARGS="-DGGML_CUDA=on" make run. Elsewhere: CMAKE_ARGS="-DGGML_CUDA=on" pip install '
    "--force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python llama-cpp-python==0.3.36. "
    "With METAL, HIP or VULKAN in the place of CUDA for those."
)


def _features(system_info: str) -> str:
    """llama.cpp's ``CPU : AVX = 1 | AVX2 = 1 |`` as ``CPU: AVX AVX2``; what is not on is left out."""
    parts = []
    for entry in visible_line(system_info).split("|"):
        backend, colon, feature = entry.rpartition(":")
        name, _, value = feature.partition("=")
        if value.strip() != "0" and name.strip():
            number = f"={value.strip()}" if value.strip() not in ("", "1") else ""
            parts.append(f"{backend.strip()}{colon}{' ' if colon else ''}{name.strip()}{number}")
    return " ".join(parts) or "n/a: it does not say"


def ask_engine(command: tuple[str, ...] = _COMMAND, timeout_s: float = _TIMEOUT_S) -> EngineHello | str:
    """The hello of an engine that is started for this, or one sentence on why there is none."""
    with tempfile.TemporaryDirectory(prefix="pagewise-doctor-") as folder:
        log = Path(folder) / "engine.log"
        try:
            with log.open("wb") as errors:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, "PAGEWISE_LOG": str(log)},
                    start_new_session=True,
                )
        except OSError as error:
            return f"no engine could be started: {error.strerror}"
        with process:
            try:
                hello = _hello(process, timeout_s)
            finally:
                process.kill()
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{hello} ({visible_line(words[-1])})" if isinstance(hello, str) and words else hello


def _hello(process: subprocess.Popen[bytes], timeout_s: float) -> EngineHello | str:
    assert process.stdin is not None and process.stdout is not None
    until = time.monotonic() + timeout_s
    frames = FrameReader()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            process.stdin.write(encode(Hello()))
            process.stdin.flush()
            while selector.select(max(0.0, until - time.monotonic())):
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    status = process.wait()
                    return f"the engine ended at once, {_ended(status)}"
                for _, payload in frames.feed(data):
                    event = decode_event(payload)
                    if isinstance(event, EngineHello):
                        return event
        except (OSError, FrameError) as error:
            return f"the engine could not be asked: {error}"
    return f"the engine did not answer within {timeout_s:.0f} s"


def _ended(status: int) -> str:
    if status == -signal.SIGILL:
        return "by an instruction that this processor lacks: it was built on another machine"
    return f"by signal {-status}" if status < 0 else f"with exit status {status}"
