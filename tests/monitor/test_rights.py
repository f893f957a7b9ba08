"""The whole command as a user without rights to the process that he watches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.monitor.holder import held_by
from tests.synthetic import make_model

from pagewise.readings import MonitorSample, WatchedModel

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user takes root and setpriv"
)
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all")
MONITOR = (sys.executable, "-c", "from pagewise.cli import main; main()", "monitor")


@pytest.fixture
def model() -> Iterator[Path]:
    """In a folder that everybody may enter; pytest's own is for its user alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copy(make_model(), Path(folder) / "model.gguf"))


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent", "XDG_CACHE_HOME": "/tmp"}
    done = subprocess.run(
        [*NOBODY, *MONITOR, *arguments], capture_output=True, text=True, timeout=60, env=environment, cwd="/"
    )
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("another user may not read this checkout")
    return done


def watched(pid: int) -> WatchedModel:
    done = as_nobody("--json", "--interval", "0.2", "--count", "2", "--pid", str(pid))
    assert (done.returncode, done.stderr) == (0, "")
    (model,) = msgspec.json.decode(done.stdout.splitlines()[-1], type=MonitorSample).models
    return model


def why(one: WatchedModel, metric: str) -> str:
    entries = [*one.missing, *(one.paging.missing if one.paging else ())]
    entries += [entry for held in one.models for entry in held.missing]
    return next((entry.why for entry in entries if entry.metric == metric), "")


def test_what_can_be_read_is_shown_and_the_rest_names_its_right(model: Path) -> None:
    model.chmod(0o644)
    with held_by("map", model, ["-m", str(model)]) as process:
        one = watched(process.pid)
    assert (one.program, one.user, one.state) == ("llama-server", "root", "running")
    assert one.rss_bytes is not None and one.file_bytes is not None and one.anon_bytes is not None
    assert one.threads == 1 and one.cpu_pct is not None
    held = one.models[0]
    assert (held.path, held.found_by, held.n_layer, held.quant) == (str(model), ("command line",), 4, "F16")
    assert held.mapped_bytes is None, "what may not be read is not 0"
    assert "owner or by root" in why(one, "mapped_bytes")
    for metric in ("mappings", "open files"):
        assert "owner or by root" in why(one, metric) and f"sudo pagewise monitor --pid {process.pid}" in why(
            one, metric
        )
    assert one.paging is not None and one.paging.page_in_bytes_s is None
    assert "root may: `sudo pagewise monitor`" in why(one, "page_in_bytes_s")
    assert one.paging.stalls_s is not None, "major faults are told to everybody"
    assert "owner or by root" in why(one, "server")
    assert one.verdict is None and why(one, "verdict")


def test_a_model_that_is_private_is_named_with_who_may_read_it(model: Path) -> None:
    model.chmod(0o600)
    with held_by("map", model, ["-m", str(model)]) as process:
        one = watched(process.pid)
        table = as_nobody("--once", "--pid", str(process.pid))
    held = one.models[0]
    assert (held.path, held.file, held.n_layer) == (str(model), "unreadable", None)
    assert "may not be read by this user; root may" in held.missing[0].why
    assert one.residency == () and "root may" in why(one, "residency")
    assert one.rss_bytes is not None
    assert "sudo pagewise monitor" in table.stdout and table.returncode == 0
    assert " 0 B" not in table.stdout.splitlines()[1], "what is not known is never 0"


def test_how_many_could_not_be_looked_into_is_said(model: Path) -> None:
    with held_by("name", "nothing"):
        done = as_nobody("--json", "--count", "1")
    sample = msgspec.json.decode(done.stdout.splitlines()[0], type=MonitorSample)
    (entry,) = sample.missing
    assert entry.metric == "models" and "could not be looked into" in entry.why and "CAP_SYS_PTRACE" in entry.why
