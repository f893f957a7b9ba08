"""Pulls in a process of their own, as the host makes them, from a hub on loopback."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock
from tests.models.gguf_bytes import gguf
from tests.models.hub.hub_server import COMMIT, Faults, Hub, serving
from tests.namespace import run_in_small_disk, why_not

from pagewise.jobs.pull import Brought
from pagewise.models.telling import LENGTH, Failed, Step

REPOSITORY = "someone/Small-Model-GGUF"
FOLDER = "models--someone--Small-Model-GGUF"
_decoder: msgspec.msgpack.Decoder[Step | Failed | Brought] = msgspec.msgpack.Decoder(Step | Failed | Brought)


def content(name: str, size: int = 300_000) -> bytes:
    """Something that begins as a model and cannot be compressed."""
    digests = (hashlib.sha256(f"{name}{number}".encode()).digest() for number in range(-(-size // 32)))
    return (gguf({"general.architecture": "llama"}) + b"".join(digests))[:size]


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        "README.md": b"# Small\n",
        "small-Q4_K_M.gguf": content("q4"),
        "small-Q8_0.gguf": content("q8", 500_000),
        "Q6_K/small-Q6_K-00001-of-00002.gguf": content("first", 200_000),
        "Q6_K/small-Q6_K-00002-of-00002.gguf": content("second", 100_000),
        "mmproj-small-F16.gguf": content("eyes", 1000),
    }
    with serving(Hub(REPOSITORY, files)) as hub:
        yield hub


def told(hub: Hub, home: Path, *arguments: str, **environment: str) -> list[Step | Failed | Brought]:
    """Everything that a pull says. ``arguments``: repository, quant, fetch or list."""
    command = [sys.executable, "-m", "pagewise.models.hub", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables = {**clean, **hub.environment(str(home)), **environment}
    done = subprocess.run(command, env=variables, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return messages(done.stdout)


def messages(output: bytes) -> list[Step | Failed | Brought]:
    found = []
    while output:
        (length,) = LENGTH.unpack_from(output)
        found.append(_decoder.decode(output[LENGTH.size : LENGTH.size + length]))
        output = output[LENGTH.size + length :]
    return found


def pull(hub: Hub, home: Path, quant: str, **environment: str) -> Brought:
    last = told(hub, home, REPOSITORY, quant, "fetch", **environment)[-1]
    assert isinstance(last, Brought), last
    return last


def refusal(hub: Hub, home: Path, quant: str = "Q4_K_M", **environment: str) -> str:
    last = told(hub, home, REPOSITORY, quant, "fetch", **environment)[-1]
    assert isinstance(last, Failed), last
    return f"{last.failure.what}. {last.failure.why} {last.failure.next}"


def partial(home: Path) -> list[Path]:
    return list((home / "hub" / FOLDER / "blobs").glob("*.incomplete"))


def test_a_level_comes_into_the_shared_cache_where_other_tools_find_it(hub: Hub, tmp_path: Path) -> None:
    brought = pull(hub, tmp_path, "q4_k_m")
    path = Path(str(brought.path))
    assert path == tmp_path / "hub" / FOLDER / "snapshots" / COMMIT / "small-Q4_K_M.gguf"
    assert path.read_bytes() == hub.files["small-Q4_K_M.gguf"]
    assert path.resolve().name == hub.sha256("small-Q4_K_M.gguf")
    assert (tmp_path / "hub" / FOLDER / "refs" / "main").read_text() == COMMIT
    assert (brought.quant, brought.fetched_bytes, brought.verified) == ("Q4_K_M", 300_000, 1)
    again = pull(hub, tmp_path, "Q4_K_M")
    assert (again.path, again.fetched_bytes) == (brought.path, 0)
    assert len(hub.ranges) == 1 and not partial(tmp_path)


def test_all_parts_of_a_split_file_come(hub: Hub, tmp_path: Path) -> None:
    brought = pull(hub, tmp_path, "Q6_K")
    path = Path(str(brought.path))
    assert path.name == "small-Q6_K-00001-of-00002.gguf"
    assert path.with_name("small-Q6_K-00002-of-00002.gguf").stat().st_size == 100_000
    assert (brought.bytes, brought.verified) == (300_000, 2)


def test_without_a_level_the_repository_is_listed(hub: Hub, tmp_path: Path) -> None:
    listed = pull(hub, tmp_path, "")
    assert listed.path is None and not hub.ranges
    assert [(offer.quant, offer.bytes, len(offer.files)) for offer in listed.offers.levels] == [
        ("Q6_K", 300_000, 2),
        ("Q4_K_M", 300_000, 1),
        ("Q8_0", 500_000, 1),
    ]
    assert listed.offers.others == ("mmproj-small-F16.gguf",)
    assert listed.offers.endpoint == hub.endpoint


def test_a_broken_connection_goes_on_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.faults.break_after = [70_000, 50_000]
    brought = pull(hub, tmp_path, "Q4_K_M")
    assert Path(str(brought.path)).read_bytes() == hub.files["small-Q4_K_M.gguf"]
    assert hub.ranges == ["bytes=0-", "bytes=70000-", "bytes=120000-"]


def test_a_pull_that_was_ended_goes_on_at_the_next_one(hub: Hub, tmp_path: Path) -> None:
    hub.faults.stall_after = [200_000]
    command = [sys.executable, "-m", "pagewise.models.hub", REPOSITORY, "Q4_K_M", "fetch"]
    variables = {**os.environ, **hub.environment(str(tmp_path))}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        phase = ""
        while phase != "fetching":
            (length,) = LENGTH.unpack(process.stdout.read(LENGTH.size))
            step = _decoder.decode(process.stdout.read(length))
            assert isinstance(step, Step)
            phase = step.phase
        process.kill()
    kept = partial(tmp_path)[0].stat().st_size
    assert kept
    steps = told(hub, tmp_path, REPOSITORY, "Q4_K_M", "fetch")
    brought = steps[-1]
    assert isinstance(brought, Brought) and brought.fetched_bytes == 300_000 - kept
    assert Path(str(brought.path)).read_bytes() == hub.files["small-Q4_K_M.gguf"]
    assert any(isinstance(step, Step) and step.phase == "reading what is there" for step in steps)


def test_a_hub_that_ignores_ranges_sends_it_all_again(hub: Hub, tmp_path: Path) -> None:
    hub.faults.break_after = [90_000]
    hub.faults.ignore_ranges = True
    brought = pull(hub, tmp_path, "Q4_K_M")
    assert Path(str(brought.path)).read_bytes() == hub.files["small-Q4_K_M.gguf"]
    assert brought.fetched_bytes == 390_000


def test_a_stall_is_waited_out_and_told(hub: Hub, tmp_path: Path) -> None:
    hub.faults.stall_after = [60_000]
    steps = told(hub, tmp_path, REPOSITORY, "Q4_K_M", "fetch", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert isinstance(steps[-1], Brought)
    assert any(isinstance(step, Step) and step.phase == "waiting for the hub" for step in steps)


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.faults.corrupt = True
    assert "not what the hub says it is" in refusal(hub, tmp_path)
    blobs = tmp_path / "hub" / FOLDER / "blobs"
    assert not list(blobs.iterdir())
    assert not list((tmp_path / "hub").rglob("*.gguf"))


def test_damage_of_the_part_that_was_kept_is_found(hub: Hub, tmp_path: Path) -> None:
    blobs = tmp_path / "hub" / FOLDER / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hub.sha256('small-Q4_K_M.gguf')}.incomplete").write_bytes(b"not the beginning of it")
    assert "not what the hub says it is" in refusal(hub, tmp_path)
    assert pull(hub, tmp_path, "Q4_K_M").verified == 1


def test_a_small_file_is_checked_by_the_checksum_of_git(hub: Hub, tmp_path: Path) -> None:
    hub.large = frozenset(hub.files) - {"small-Q4_K_M.gguf"}
    assert Path(str(pull(hub, tmp_path, "Q4_K_M").path)).resolve().name == hub.blob_id("small-Q4_K_M.gguf")


def test_a_token_goes_to_the_hub_and_not_to_the_server_of_files(hub: Hub, tmp_path: Path) -> None:
    hub.faults.token = "hf_secret"
    assert "is gated" in refusal(hub, tmp_path)
    assert "HF_TOKEN" in refusal(hub, tmp_path, HF_TOKEN="hf_other")
    assert pull(hub, tmp_path, "Q4_K_M", HF_TOKEN="hf_secret").path
    assert hub.leaked == []


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "is gated"),
        (401, "GatedRepo", "is gated"),
        (401, "", "no repository"),
        (403, "", "does not let you read"),
        (404, "RepoNotFound", "no repository someone/Small-Model-GGUF"),
        (429, "", "patience"),
        (500, "", "has a fault"),
    ],
)
def test_what_the_hub_refuses_is_said(hub: Hub, tmp_path: Path, status: int, code: str, words: str) -> None:
    hub.faults.status, hub.faults.error_code = status, code
    assert words in refusal(hub, tmp_path)


def test_a_file_that_another_program_fetches_is_left_to_it(hub: Hub, tmp_path: Path) -> None:
    lock = tmp_path / "hub" / ".locks" / FOLDER / f"{hub.sha256('small-Q4_K_M.gguf')}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert "being fetched already" in refusal(hub, tmp_path)
    assert pull(hub, tmp_path, "Q4_K_M").fetched_bytes == 300_000


def test_a_level_that_is_not_there_is_said_with_those_that_are(hub: Hub, tmp_path: Path) -> None:
    words = refusal(hub, tmp_path, "Q2_K")
    assert "has no Q2_K" in words and "Q8_0" in words


def test_a_hub_that_does_not_answer_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.faults.silent = True
    assert "does not answer" in refusal(hub, tmp_path, HF_HUB_ETAG_TIMEOUT="1")


def test_without_a_network_it_is_one_plain_failure(hub: Hub, tmp_path: Path) -> None:
    assert "cannot be reached" in refusal(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:1")


def test_offline_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    assert "HF_HUB_OFFLINE" in refusal(hub, tmp_path, HF_HUB_OFFLINE="1")


def test_a_connection_that_stays_broken_is_given_up_and_its_bytes_kept(hub: Hub, tmp_path: Path) -> None:
    hub.faults.break_after = [100_000, 0, 0, 0]
    program = (
        "from pagewise.models.hub.pull import pull\n"
        "from pagewise.models.hub.selection import HubError\n"
        "try:\n"
        f"    pull({REPOSITORY!r}, 'Q4_K_M', False, lambda *_: None, tries=1)\n"
        "except HubError as error:\n"
        "    print(error.failure.what)\n"
    )
    variables = {**os.environ, **hub.environment(str(tmp_path))}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "The hub cannot be reached", done.stderr
    assert partial(tmp_path)[0].stat().st_size == 100_000


def test_files_beyond_one_connection_go_the_way_of_the_library(hub: Hub, tmp_path: Path) -> None:
    # The library takes the same limit for plain HTTP, which is what this hub speaks: it must see a larger one.
    program = (
        "from huggingface_hub import constants\n"
        "from pagewise.models.hub import fetch, pull\n"
        "from pagewise.models.hub.selection import HubError\n"
        "told = []\n"
        "by_library = fetch._fetch_by_library\n"
        "def with_a_larger_limit(*arguments):\n"
        "    constants.MAX_HTTP_DOWNLOAD_SIZE = 10**12\n"
        "    return by_library(*arguments)\n"
        "fetch._fetch_by_library = with_a_larger_limit\n"
        "constants.MAX_HTTP_DOWNLOAD_SIZE = 1000\n"
        "try:\n"
        f"    brought = pull.pull({REPOSITORY!r}, 'Q4_K_M', False, lambda phase, *_: told.append(phase))\n"
        "    print(brought.verified, brought.fetched_bytes, 'verifying' in told)\n"
        "except HubError as error:\n"
        "    print(error.failure.what)\n"
    )
    variables = {**os.environ, **hub.environment(str(tmp_path))}

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip() or done.stderr

    hub.faults.corrupt = True
    assert "not what the hub says" in run()
    hub.faults = Faults()
    assert run() == "1 300000 True"


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_a_disk_that_fills_is_said_and_what_came_is_kept(hub: Hub, tmp_path: Path) -> None:
    program = (
        "import os, shutil\n"
        "from pathlib import Path\n"
        f"os.environ.update({hub.environment(str(tmp_path))!r})\n"
        "from pagewise.models.hub import fetch, pull\n"
        "from pagewise.models.hub.selection import HubError\n"
        "for looked in (True, False):\n"
        "    if not looked:\n"
        "        fetch.shutil.disk_usage = lambda path: shutil._ntuple_diskusage(0, 0, 10**12)\n"
        "    try:\n"
        f"        pull.pull({REPOSITORY!r}, 'Q8_0', False, lambda *_: None)\n"
        "    except HubError as error:\n"
        "        print(error.failure.what)\n"
        f"print(sum(path.stat().st_size for path in Path({str(tmp_path)!r}).rglob('*.incomplete')))\n"
    )
    what, full, kept = run_in_small_disk(program, tmp_path, "256k").splitlines()
    assert what == "The disk has no room for it"
    assert full == "The disk is full"
    assert 0 < int(kept) < 500_000
