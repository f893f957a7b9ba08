"""Making a quant level as a job of the host: with its real engine process, and what is left of it however it ends."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.host.talk import Talk, children, gone
from tests.imatrices import write_gguf
from tests.namespace import run_in_small_disk, why_not
from tests.synthetic import make_model, make_quantized

from pagewise.client import HostClient
from pagewise.guide.files import guide_path
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.quantize import Quantize, Quantized
from pagewise.messages import Failure, Stop
from pagewise.models.gguf import read_header


@pytest.fixture
async def real(own_folders: None) -> AsyncIterator[Talk]:
    async with Talk(HostClient()) as talk:
        yield talk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a copy of the guide in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(guide_path(), folder / "guide-f16.gguf")
    return folder


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder with a model whose quantization takes some seconds."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "large-F16.gguf").symlink_to(make_model(n_layer=8, n_embd=1024, n_ff=4096, n_head=8, n_vocab=2048))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def size_of(path: str) -> int:
    return Path(path).stat().st_size


async def ended(talk: Talk) -> Quantized | Failure:
    """How the job ended."""
    event = await talk.wait(object, lambda event: isinstance(event, Quantized | JobFailed))  # type: ignore[type-var]
    assert isinstance(event, Quantized | JobFailed)
    return event if isinstance(event, Quantized) else event.failure


async def test_it_is_predicted_and_then_made_just_so(real: Talk, folder: Path) -> None:
    source = str(folder / "guide-f16.gguf")
    real.send(Quantize(1, source, "q4_k", dry_run=True))
    predicted = await ended(real)
    assert isinstance(predicted, Quantized) and predicted.dry_run
    assert names(folder) == ["guide-f16.gguf"]
    real.send(Quantize(2, source, "q4_k"))
    made = await ended(real)
    assert isinstance(made, Quantized) and not made.dry_run and made.id == 2
    assert made.path == predicted.path == str(folder / "guide-Q4_K_M.gguf")
    assert size_of(made.path) == made.bytes == predicted.bytes
    assert (made.level, made.source_level, made.types) == ("Q4_K_M", "F16", predicted.types)
    assert sum(share.bytes for share in made.types) < made.bytes
    assert names(folder) == ["guide-Q4_K_M.gguf", "guide-f16.gguf"]
    steps = [event for event in real.all(JobProgress) if event.id == 2 and event.phase == "quantizing"]
    assert steps[-1].done == steps[-1].total == made.bytes and steps[0].detail.startswith("1 of 74 ")
    assert made.notes == () and not made.needs_permission
    assert made.error.result == pytest.approx(made.error.direct, rel=0.001)


async def test_a_coarse_source_is_refused_until_it_is_allowed(real: Talk, folder: Path) -> None:
    source = folder / "guide-Q4_K_M.gguf"
    shutil.copy(make_quantized(guide_path_in(folder), "Q4_K_M"), source)
    real.send(Quantize(1, str(source), "Q3_K_M", dry_run=True))
    predicted = await ended(real)
    assert isinstance(predicted, Quantized) and predicted.needs_permission
    assert predicted.error.direct < predicted.error.result and predicted.error.source > 0.05
    assert "made from F16" in predicted.notes[0]
    real.send(Quantize(2, str(source), "Q3_K_M"))
    refused = await ended(real)
    assert isinstance(refused, Failure) and "--allow-requantize" in refused.next and "Q4_K_M" in refused.why
    real.send(Quantize(3, str(source), "Q3_K_M", allow_requantize=True))
    made = await ended(real)
    assert isinstance(made, Quantized) and size_of(made.path) == made.bytes
    real.send(Quantize(4, str(source), "Q8_0"))
    grows = await ended(real)
    assert isinstance(grows, Failure) and "no smaller" in grows.why


def guide_path_in(folder: Path) -> Path:
    return folder / "guide-f16.gguf"


async def test_q8_0_is_fine_enough_to_begin_from(real: Talk, folder: Path) -> None:
    source = folder / "guide-Q8_0.gguf"
    shutil.copy(make_quantized(guide_path_in(folder), "Q8_0"), source)
    real.send(Quantize(1, str(source), "Q4_K_M"))
    made = await ended(real)
    assert isinstance(made, Quantized) and made.notes == ()


async def test_nothing_is_replaced(real: Talk, folder: Path) -> None:
    target = folder / "mine.gguf"
    target.write_bytes(b"mine")
    real.send(Quantize(1, str(guide_path_in(folder)), "Q8_0", str(target)))
    failure = await ended(real)
    assert isinstance(failure, Failure) and "there already" in failure.what
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", ["level", "source", "imatrix", "target"])
async def test_bad_input_is_told(real: Talk, folder: Path, wrong: str) -> None:
    source, level, target, imatrix = str(guide_path_in(folder)), "Q8_0", str(folder / "made.gguf"), ""
    if wrong == "level":
        level = "Q9"
    elif wrong == "source":
        source = str(folder / "nothing.gguf")
    elif wrong == "imatrix":
        imatrix = str(write_gguf(folder / "imatrix.gguf", {}))
    else:
        (folder / "file").write_bytes(b"")
        target = str(folder / "file" / "made.gguf")
    real.send(Quantize(1, source, level, target, imatrix))
    failure = await ended(real)
    assert isinstance(failure, Failure)
    assert {"level": "Q9", "source": "nothing.gguf", "imatrix": "imatrix.gguf", "target": "made.gguf"}[
        wrong
    ] in failure.what
    assert "made.gguf" not in names(folder)


async def test_cancelled_it_leaves_nothing(real: Talk, large: Path) -> None:
    real.send(Quantize(1, str(large / "large-F16.gguf"), "Q3_K_M"))
    await real.wait(JobProgress, lambda event: event.phase == "quantizing" and event.done > 0)
    host = real.client.pid
    assert host is not None
    engines = children(host)
    real.send(Stop(1))
    failed = await real.wait(JobFailed)
    assert failed.cancelled
    await gone(*engines)
    assert names(large) == ["large-F16.gguf"]


@pytest.mark.parametrize("whom", ["host", "engine"])
async def test_killed_it_leaves_nothing(real: Talk, large: Path, whom: str) -> None:
    real.send(Quantize(1, str(large / "large-F16.gguf"), "Q3_K_M"))
    await real.wait(JobProgress, lambda event: event.phase == "quantizing" and event.done > 0)
    host = real.client.pid
    assert host is not None
    (engine,) = children(host)
    os.kill(host if whom == "host" else engine, signal.SIGKILL)
    await real.wait(JobFailed)
    await gone(engine)
    assert names(large) == ["large-F16.gguf"]


async def test_two_may_be_made_at_once(real: Talk, folder: Path) -> None:
    for id, level in enumerate(("Q8_0", "Q4_0"), 1):
        real.send(Quantize(id, str(guide_path_in(folder)), level))
    first, second = await ended(real), await ended(real)
    assert isinstance(first, Quantized) and isinstance(second, Quantized)
    assert names(folder) == ["guide-Q4_0.gguf", "guide-Q8_0.gguf", "guide-f16.gguf"]
    assert all(read_header(folder / name).tensors for name in names(folder))


ON_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from pagewise.client import HostClient
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.quantize import Quantize, Quantized

folder, source, filled = Path(sys.argv[1]), %r, %r

async def main():
    client = HostClient()
    await client.start()
    client.send(Quantize(1, source, "Q8_0", str(folder / "made.gguf")))
    async for event in client.events():
        if isinstance(event, JobProgress) and event.phase == "quantizing" and event.done and filled:
            with (folder / "other").open("ab", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    filled.clear()
        if isinstance(event, (JobFailed, Quantized)):
            print(event.failure.what, "|", event.failure.why)
            break
    await client.close()
    print(sorted(path.name for path in folder.iterdir()))

asyncio.run(main())
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_disk_without_room_is_seen_beforehand(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    said, left = run_in_small_disk(ON_A_SMALL_DISK % (str(guide_path()), []), disk, "4m").splitlines()
    assert "There is no room for made.gguf" in said and "MB free" in said
    assert left == "[]"


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_disk_that_is_filled_meanwhile_ends_it_and_nothing_is_left(tmp_path: Path, large: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    source = str(large / "large-F16.gguf")
    said, left = run_in_small_disk(ON_A_SMALL_DISK % (source, ["fill it"]), disk, "400m").splitlines()
    assert "There is no room for made.gguf" in said
    assert left == "['other']"
