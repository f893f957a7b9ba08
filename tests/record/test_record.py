from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.app import scenes
from tests.record import story

from pagewise import messages
from pagewise.messages import PROTOCOL, ChatMessage
from pagewise.record import recorder as recorder_module
from pagewise.record.format import BLOCK, ENTRY, EVENT, HEAD, KEY, MAGIC, VERSION, Header, RecordError, packed_block
from pagewise.record.reader import Record
from pagewise.record.recorder import Recorder


def told_by(path: Path) -> list[tuple[int, object]]:
    with Record(path) as record:
        return list(record)


def test_what_is_told_comes_back_in_order_with_its_time(tmp_path: Path) -> None:
    told = story.chat()
    path = story.record(tmp_path / "a.pwr", told)
    with Record(path) as record:
        found = list(record)
        assert (record.ending, record.unreadable, record.header.command) == ("whole", 0, "chat")
        assert record.length_ms == round(told[-1][0] * 1000)
    assert [ms for ms, _ in found] == [int(at * 1000) for at, _ in told]
    for (_, was), (_, now) in zip(told, found, strict=True):
        if not isinstance(was, messages.Generate):
            assert was == now


def test_of_a_question_only_itself_is_kept(tmp_path: Path) -> None:
    path = story.record(tmp_path / "a.pwr", story.chat())
    asked = [message for _, message in told_by(path) if isinstance(message, messages.Generate)]
    assert [message.messages for message in asked[:2]] == [(ChatMessage("user", "Q0?"),), (ChatMessage("user", "Q1?"),)]
    assert b"secret" not in zlib.decompressobj().decompress(_first_block(path))


def _first_block(path: Path) -> bytes:
    data = path.read_bytes()
    start = len(MAGIC) + HEAD.size + HEAD.unpack_from(data, len(MAGIC))[1]
    _, length, _ = BLOCK.unpack_from(data, start)
    return data[start + BLOCK.size : start + BLOCK.size + length]


def test_commands_that_events_tell_anyway_are_left_out(tmp_path: Path) -> None:
    path = story.record(
        tmp_path / "a.pwr",
        [(0, messages.SetRate(2.0)), (0, messages.Quit()), (0, messages.Hello()), (0, scenes.hello())],
    )
    assert [type(message) for _, message in told_by(path)] == [messages.HostHello]


def test_a_long_record_is_read_a_segment_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BLOCK_BYTES", 4_000)
    monkeypatch.setattr(recorder_module, "SEGMENT_BYTES", 60_000)
    told = story.chat()
    path = tmp_path / "a.pwr"
    clock = story.Clock()
    with Recorder(path, "chat", clock) as recorder:
        for index, (at, message) in enumerate(told):
            clock.now = at
            recorder.take(message)
            if index % 20 == 0:
                recorder._flush()
    with Record(path) as record:
        assert len(record._segments) > 3
        order = list(range(len(record)))
        random.Random(1).shuffle(order)
        for index in order[:200]:
            if not isinstance(told[index][1], messages.Generate):
                assert record.message(index) == told[index][1]


def test_a_file_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(RecordError) as caught:
        Recorder(path, "chat")
    assert "is there already" in caught.value.failure.why
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        Recorder(tmp_path / "no" / "such" / "folder.pwr", "chat")
    assert "No such file" in caught.value.failure.why


def test_only_the_owner_may_read_a_record(tmp_path: Path) -> None:
    path = story.record(tmp_path / "a.pwr", [(0.0, scenes.hello())])
    assert path.stat().st_mode & 0o777 == 0o600


_KILLED = """
import sys, time
from pathlib import Path
from tests.app import scenes
from pagewise import messages
from pagewise.record.recorder import Recorder
path = Path(sys.argv[1])
recorder = Recorder(path, "chat")
before = path.stat().st_size
for index in range(50):
    recorder.take(messages.Tokens(1, (index,), "x", index, index, 1.0))
while path.stat().st_size == before:
    time.sleep(0.01)
print("written", flush=True)
sys.stdin.read()
"""


def test_what_was_taken_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "a.pwr"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )
    assert process.stdout is not None and process.stdin is not None
    with process.stdout, process.stdin:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with Record(path) as record:
        assert len(record) == 50
        assert record.ending == "open"
        assert "no end mark" in record.remark


_FULL = """
import resource, signal, sys
from pathlib import Path
from pagewise import messages
from pagewise.record.format import RecordError
from pagewise.record.recorder import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(Path(sys.argv[1]), "chat")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import os
for index in range(200):
    recorder.take(messages.Tokens(1, (index,), os.urandom(60).hex(), index, index, 1.0))
try:
    recorder.close()
except RecordError as error:
    print(error.failure.why)
print(recorder.take(messages.Quit()))
"""


def test_a_disk_that_is_full_is_said_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.pwr"
    done = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, timeout=60)
    assert "File too large" in done.stdout and done.stdout.endswith("None\n"), done.stderr
    with Record(path) as record:
        assert record.ending == "cut"


# ---- cut, damaged, newer, and no record at all ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of many blocks."""
    path = tmp_path_factory.mktemp("whole") / "a.pwr"
    clock = story.Clock()
    with Recorder(path, "chat", clock) as recorder:
        for index, (at, message) in enumerate(story.chat()):
            clock.now = at
            recorder.take(message)
            if index % 50 == 0:
                recorder._flush()
    return path


def test_wherever_a_record_is_cut_it_is_read_up_to_the_cut(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    all_of_it = [message for _, message in told_by(whole)]
    path = tmp_path / "cut.pwr"
    lengths = set()
    for end in range(len(data) // 3, len(data), 997):
        path.write_bytes(data[:end])
        with Record(path) as record:
            found = [message for _, message in record]
            assert record.ending in ("cut", "open") and record.remark
        assert found == all_of_it[: len(found)]
        lengths.add(len(found))
    assert len(lengths) > 5 and max(lengths) > len(all_of_it) * 0.8


@given(place=st.integers(0, 10_000_000), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_ends_the_record_or_refuses_it(whole: Path, tmp_path: Path, place: int, flip: int) -> None:
    data = bytearray(whole.read_bytes())
    data[place % len(data)] ^= flip
    path = tmp_path / "bad.pwr"
    path.write_bytes(data)
    all_of_it = [message for _, message in told_by(whole)]
    try:
        with Record(path) as record:
            found = [message for _, message in record]
    except RecordError as error:
        assert error.failure.what and error.failure.next
        return
    assert found == all_of_it[: len(found)]


@given(data=st.binary(max_size=300), with_magic=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_file_is_refused_in_a_sentence(tmp_path: Path, data: bytes, with_magic: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes((MAGIC if with_magic else b"") + data)
    with pytest.raises(RecordError):
        Record(path)


def _with_header(path: Path, version: int, header: Header, rest: bytes = b"") -> Path:
    data = msgspec.msgpack.encode(header)
    path.write_bytes(MAGIC + HEAD.pack(version, len(data), zlib.crc32(data)) + data + rest)
    return path


@pytest.mark.parametrize(("version", "protocol"), [(VERSION + 1, PROTOCOL), (VERSION, PROTOCOL + 1)])
def test_a_record_of_a_newer_version_is_refused(tmp_path: Path, version: int, protocol: int) -> None:
    path = _with_header(tmp_path / "a.pwr", version, Header("9.9.9", protocol, "chat", 0.0))
    with pytest.raises(RecordError) as caught:
        Record(path)
    assert caught.value.failure.what == "This record is newer than this pagewise"
    assert "9.9.9" in caught.value.failure.why
    assert "newer pagewise" in caught.value.failure.next


def test_an_entry_of_a_kind_that_is_not_known_is_passed_over_and_counted(tmp_path: Path) -> None:
    strange = msgspec.msgpack.encode({"type": "FromTheFuture", "x": 1})
    known = msgspec.msgpack.encode(scenes.hello())
    raw = b"".join(ENTRY.pack(5, EVENT, len(entry)) + entry for entry in (strange, known))
    block = packed_block(KEY, zlib.compress(raw))
    path = _with_header(tmp_path / "a.pwr", VERSION, Header("0", PROTOCOL, "chat", 0.0), block)
    with Record(path) as record:
        assert [message for _, message in record] == [scenes.hello()]
        assert record.unreadable == 1


def test_a_record_that_would_fill_the_memory_is_damaged(tmp_path: Path) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(90)) + packer.flush()
    path = _with_header(tmp_path / "a.pwr", VERSION, Header("0", PROTOCOL, "chat", 0.0), packed_block(KEY, bomb))
    with Record(path) as record:
        assert (len(record), record.ending) == (0, "damaged")


def test_a_record_that_changes_under_its_reader_is_said(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pwr"
    path.write_bytes(whole.read_bytes())
    with Record(path) as record:
        path.write_bytes(b"")
        with pytest.raises(RecordError, match="has changed"):
            record.message(0)
