"""Frames: whatever the bytes, there is a value or a FrameError, and what is sent is what arrives."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise import messages
from pagewise.messages import CONTROL, HEADER, MAX_FRAME, STREAM, FrameError, FrameReader, decode_command, decode_event
from pagewise.settings import Profile

COMMANDS: list[messages.Command] = [
    messages.Hello(),
    messages.Load(1, Profile(name="p", tensor_split=(0.5, 0.5), n_gpu_layers=3), "context"),
    messages.Generate(2, (messages.ChatMessage("user", "Grüße \x00\x1b[2J", (1, 2), "v"),)),
    messages.Stop(2),
    messages.Release(),
    messages.SetRate(2.5),
    messages.Quit(),
]
EVENTS: list[messages.Event] = [
    messages.HostHello(1, "0.1", 7, "box", "Linux"),
    messages.EngineStatus("ready", 9, "p"),
    messages.LoadProgress(1, "read", 5, 10),
    messages.LoadFailed(1, messages.Failure("a", "b", "c"), True, "p"),
    messages.Prefill(2, 1, 2, 0),
    messages.Tokens(2, (5,), "é", 1, 11, 2.5),
    messages.Finished(2, "engine lost", None, messages.Failure("a", "b", "c")),
    messages.EngineLost(messages.Failure("a", "b", "c"), 9, None, True),
]


def read(data: bytes, *cuts: int) -> list[tuple[int, bytes]]:
    reader = FrameReader()
    edges = [0, *sorted(cuts), len(data)]
    return [frame for start, end in pairwise(edges) for frame in reader.feed(data[start:end])]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_commands_arrive_as_they_were_sent(command: messages.Command) -> None:
    ((channel, payload),) = read(messages.encode(command))
    assert channel == CONTROL
    assert decode_command(payload) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_arrive_as_they_were_sent(event: messages.Event) -> None:
    ((channel, payload),) = read(messages.encode(event))
    assert channel == (STREAM if isinstance(event, messages.STREAM_TYPES) else CONTROL)
    assert decode_event(payload) == event


@given(data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.sampled_from(EVENTS)))
    stream = b"".join(map(messages.encode, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream))))
    assert [decode_event(payload) for _, payload in read(stream, *cuts)] == sent


@given(st.lists(st.binary()))
def test_any_bytes_give_frames_or_a_frame_error(pieces: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for piece in pieces:
            for channel, payload in reader.feed(piece):
                assert channel in (STREAM, CONTROL) and len(payload) <= MAX_FRAME
    except FrameError:
        return


@pytest.mark.parametrize("decode", [decode_command, decode_event])
@given(payload=st.binary())
def test_any_payload_gives_a_message_or_a_frame_error(decode, payload: bytes) -> None:  # type: ignore[no-untyped-def]
    try:
        message = decode(payload)
    except FrameError:
        return
    assert isinstance(message, msgspec.Struct)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("decode", [decode_command, decode_event])
@given(tag=st.sampled_from(["Load", "Generate", "Tokens", "Reading", "Loaded", "Finished", "Stop", "?"]), value=_VALUES)
def test_any_msgpack_gives_a_message_or_a_frame_error(decode, tag: str, value: object) -> None:  # type: ignore[no-untyped-def]
    fields = value if isinstance(value, dict) else {"id": value}
    try:
        decode(msgspec.msgpack.encode({"type": tag, **fields}))
    except FrameError:
        return


@pytest.mark.parametrize("decode", [decode_command, decode_event])
def test_nesting_without_end_is_a_frame_error(decode) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FrameError):
        decode(b"\x82\xa4type\xa8Generate\xa8messages" + b"\x91" * 100_000)


@pytest.mark.parametrize(("length", "channel"), [(MAX_FRAME + 1, CONTROL), (4, 2), (0x6C6C616D, 0x61)])
def test_a_header_that_cannot_be_one(length: int, channel: int) -> None:
    with pytest.raises(FrameError, match="not pagewise speaking"):
        list(FrameReader().feed(HEADER.pack(length, channel)))


def test_frames_before_a_bad_header_are_not_lost() -> None:
    reader = FrameReader()
    frames = reader.feed(messages.encode(messages.Stop(1)) + b"\xff" * 16)
    assert decode_command(next(frames)[1]) == messages.Stop(1)
    with pytest.raises(FrameError):
        next(frames)
