"""Every command and event between app, host and engine: the vocabulary, and how it becomes bytes.

A frame is a 4-byte big-endian length of the payload, one byte for the channel, and a msgpack payload. Channel
``STREAM`` is the token path, which the host passes on without decoding it; channel ``CONTROL`` is decoded by the host.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Struct

from pagewise.failure import Failure as Failure
from pagewise.jobs.base import JobFailed, JobProgress
from pagewise.jobs.bench import Bench, Benched
from pagewise.jobs.catalog import FindModels, ModelsFound
from pagewise.jobs.compare import CompareModels, MeasureQuality, ModelsCompared, QualityMeasured
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.plan import Compared, MakePlan, Planned
from pagewise.jobs.pull import Pull, Pulled
from pagewise.jobs.quantize import Quantize, Quantized
from pagewise.jobs.tune import FixKey, LastComparison, TakeBest, TrialBegun, TrialEnded, Tune, Tuned, TuneResumed
from pagewise.readings import (
    BufferBytes,
    GgmlDevice,
    LayerClock,
    LayerPlacement,
    MonitorSample,
    OperatorProfile,
    Snapshot,
    StackProfile,
    Streaming,
    TurnEnergy,
    TurnTiming,
    Verdict,
)
from pagewise.settings import Profile, Sampling

PROTOCOL = 1
STREAM = 0
CONTROL = 1
MAX_FRAME = 64 * 1024 * 1024
HEADER = struct.Struct(">IB")

ChangeClass = Literal["none", "live", "context", "model", "process", "held"]
"""``held``: an engine that was kept in memory takes over again; never what a change of keys alone comes to."""
StopReason = Literal["end", "stop string", "length", "context full", "stopped", "engine lost", "failed"]


class ChatMessage(Struct, frozen=True):
    """One message. ``ids`` are the generated token ids of a reply, valid where ``vocabulary`` is the model's."""

    role: Literal["system", "user", "assistant"]
    text: str
    ids: tuple[int, ...] = ()
    vocabulary: str = ""


class ModelInfo(Struct, frozen=True):
    """What was loaded, as llama.cpp says it."""

    path: str
    name: str
    architecture: str
    quant: str
    n_params: int
    file_bytes: int
    n_layer: int
    n_ctx: int
    n_ctx_train: int
    n_batch: int
    n_ubatch: int
    threads: int
    threads_batch: int
    flash_attention: bool
    load_mode: str
    repacked: bool
    has_chat_template: bool
    vocabulary: str
    """Fingerprint of tokenizer and vocabulary: token ids are valid wherever it is equal."""
    placement: tuple[LayerPlacement, ...]
    buffers: tuple[BufferBytes, ...]
    offloaded_layers: int
    """Layers on accelerators, counted as llama.cpp does: the output is one."""
    bytes_per_token: int
    """Weights read for one token (embedding by rows, experts by those routed), in bytes, without the KV cache."""
    kv_bytes_per_token: int
    load_ms: float
    context_ms: float
    notes: tuple[str, ...] = ()
    """What the person should know of this load, such as a fallback that was taken."""
    planned: tuple[Compared, ...] = ()
    """What was predicted of each device before the load, beside what it came to; empty where nothing was."""


# ---- commands: app → host, and host → engine -------------------------------------------------------------------------


class Hello(Struct, frozen=True, tag=True):
    """First command on every connection; answered by HostHello or EngineHello."""

    protocol: int = PROTOCOL


class Load(Struct, frozen=True, tag=True):
    """Make this profile the one in force. To a host: a transaction with rollback. To an engine: ``change`` says how."""

    id: int
    profile: Profile
    change: ChangeClass = "process"
    must_carry: bool = False
    """To an engine, with a change of class context: refuse it where the KV cache could not come along."""


class Unload(Struct, frozen=True, tag=True):
    """To an engine: see that ``profile`` can be loaded, put the KV cache aside, and let go of the model.

    Answered by Unloaded, or by LoadFailed with the model still in force.
    """

    id: int
    profile: Profile


class Generate(Struct, frozen=True, tag=True):
    """Answer the conversation. ``sampling`` and ``system_prompt`` are the profile's in force unless given."""

    id: int
    messages: tuple[ChatMessage, ...]
    sampling: Sampling | None = None


class Stop(Struct, frozen=True, tag=True):
    """Stop turn, load or job ``id``.

    It ends with Finished(reason="stopped"), LoadFailed(cancelled=True) or JobFailed(cancelled=True).
    """

    id: int


class Release(Struct, frozen=True, tag=True):
    """Let go of the models and their memory, kept ones too; the next Generate loads the one in force again."""


class SetRate(Struct, frozen=True, tag=True):
    """How many snapshots a second the host sends (0 to 10; 0 pauses them)."""

    hz: float


class Monitor(Struct, frozen=True, tag=True):
    """Sample the models of all processes of the box every ``interval_s``, each answered by Monitored; 0: no more.

    ``pid``, ``file`` and ``url`` narrow it to one process, to those that hold one file, to one server.
    """

    interval_s: float
    pid: int | None = None
    file: str | None = None
    url: str | None = None


class ProfileStacks(Struct, frozen=True, tag=True):
    """Sample the stacks of a process for ``seconds``; answered by Stacks. ``pid`` None: the engine."""

    id: int
    pid: int | None
    seconds: float


class ProfileOperators(Struct, frozen=True, tag=True):
    """Profile the next token node by node, of the turn in hand or of the next one; answered by Operators."""

    id: int


class Quit(Struct, frozen=True, tag=True):
    """End in good order."""


JobCommand = (
    MakePlan
    | Measure
    | Bench
    | FindModels
    | Pull
    | Quantize
    | CompareModels
    | MeasureQuality
    | Tune
    | TakeBest
    | FixKey
)
Command = (
    Hello
    | Load
    | Unload
    | Generate
    | Stop
    | Release
    | SetRate
    | Monitor
    | ProfileStacks
    | ProfileOperators
    | Quit
    | JobCommand
)


# ---- events: engine → host → app -------------------------------------------------------------------------------------


class HostHello(Struct, frozen=True, tag=True):
    """The host is there. ``libraries`` names what is on the box, without loading it."""

    protocol: int
    version: str
    pid: int
    hostname: str
    system: str


class EngineHello(Struct, frozen=True, tag=True):
    """An engine process is up and has llama.cpp loaded."""

    protocol: int
    pid: int
    llama_cpp: str
    system_info: str
    devices: tuple[str, ...]


EngineState = Literal["none", "starting", "loading", "ready", "generating", "lost", "released"]


class EngineStatus(Struct, frozen=True, tag=True):
    """The host's word on the engine, sent at each change."""

    state: EngineState
    pid: int | None = None
    profile: str | None = None
    kept: tuple[str, ...] = ()
    """Names of the profiles whose engines are held in memory beside it."""
    why: str = ""
    """What the person should know of this change: a model that was let go of by itself."""


class LoadProgress(Struct, frozen=True, tag=True):
    """``phase``: ``quantize``, ``free`` (the former model goes), ``wait`` (for memory of devices), ``read`` (pages of
    the file), ``weights``, ``context``, ``warm``.

    ``total_bytes`` 0: how much there is to do is not known.
    """

    id: int
    phase: str
    done_bytes: int
    total_bytes: int


class Unloaded(Struct, frozen=True, tag=True):
    """An engine has let go of its model, as Unload ``id`` asked. ``kv_tokens``: how many of the KV cache are aside."""

    id: int
    kv_tokens: int


class Loaded(Struct, frozen=True, tag=True):
    """Load ``id`` is done. ``change`` is the class it really was."""

    id: int
    profile: Profile
    model: ModelInfo
    change: ChangeClass
    total_ms: float
    kv_carried: int = 0
    """Tokens of the KV cache that came along from what was in force before."""
    kv_note: str = ""
    """Why the KV cache, or what would have been the rest of it, did not come along."""
    free_ms: float = 0.0
    """Of the total: the former model let go of, and its KV cache put aside."""
    wait_ms: float = 0.0
    """Of the total: until the devices had their memory back."""
    devices: tuple[GgmlDevice, ...] = ()
    """The accelerators as the engine sees them."""


class LoadFailed(Struct, frozen=True, tag=True):
    """Load ``id`` did not work. ``restored``: the former profile is in force again (its name), or None."""

    id: int
    failure: Failure
    cancelled: bool = False
    restored: str | None = None


class Prefill(Struct, frozen=True, tag=True):
    """Progress of a prompt: ``done`` of ``total`` tokens, ``reused`` of them found in the KV cache."""

    id: int
    done: int
    total: int
    reused: int


class Tokens(Struct, frozen=True, tag=True):
    """Output of turn ``id``: token ids and the text they complete (either may be empty), and KV fill after them."""

    id: int
    ids: tuple[int, ...]
    text: str
    n_output: int
    kv_used: int
    step_ms: float
    """Time since the former token (the first: TTFT)."""
    profiled: bool = False
    """It was computed node by node for an operator profile: its time is in no rate."""


class Layers(Struct, frozen=True, tag=True):
    """The layer clock of one probed token of turn ``id``."""

    id: int
    clock: LayerClock


class Streamed(Struct, frozen=True, tag=True):
    """What of the model's mapped weights is kept and what is streamed: when it changes, and now and then."""

    streaming: Streaming


class Finished(Struct, frozen=True, tag=True):
    """Turn ``id`` is over; ``failure`` is set when reason is ``failed`` or ``engine lost``."""

    id: int
    reason: StopReason
    timing: TurnTiming | None
    failure: Failure | None = None
    devices: tuple[GgmlDevice, ...] = ()
    """The accelerators as the engine sees them after it."""


class Reading(Struct, frozen=True, tag=True):
    """One snapshot of the host's instruments."""

    snapshot: Snapshot


class Judged(Struct, frozen=True, tag=True):
    """The host's verdict on turn ``id``, sent after its Finished."""

    id: int
    verdict: Verdict
    energy: TurnEnergy | None = None
    why_no_energy: str = ""


class Monitored(Struct, frozen=True, tag=True):
    """One sample of the monitor."""

    sample: MonitorSample


class Stacks(Struct, frozen=True, tag=True):
    """What came of ProfileStacks ``id``: a profile, or why there is none."""

    id: int
    profile: StackProfile | None
    failure: Failure | None = None


class Operators(Struct, frozen=True, tag=True):
    """What came of ProfileOperators ``id``: a profile, or why there is none."""

    id: int
    profile: OperatorProfile | None
    failure: Failure | None = None


class EngineLost(Struct, frozen=True, tag=True):
    """The engine ended by itself; the host starts another one and loads the profile again."""

    failure: Failure
    signal: int | None
    exit_code: int | None
    out_of_memory: bool


class Notice(Struct, frozen=True, tag=True):
    """A failure or remark that belongs to no turn and no load."""

    failure: Failure


JobEvent = (
    JobProgress
    | JobFailed
    | Planned
    | Measured
    | Benched
    | ModelsFound
    | Pulled
    | Quantized
    | ModelsCompared
    | QualityMeasured
    | TuneResumed
    | TrialBegun
    | LastComparison
    | TrialEnded
    | Tuned
)
Event = (
    HostHello
    | EngineHello
    | EngineStatus
    | LoadProgress
    | Unloaded
    | Loaded
    | LoadFailed
    | Prefill
    | Tokens
    | Layers
    | Streamed
    | Finished
    | Reading
    | Judged
    | Monitored
    | Stacks
    | Operators
    | EngineLost
    | Notice
    | JobEvent
)

STREAM_TYPES = (Tokens, Prefill)


class FrameError(Exception):
    """Bytes that are not a frame of this protocol."""


_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(message: Command | Event) -> bytes:
    """One frame, ready to be written."""
    payload = _encoder.encode(message)
    channel = STREAM if isinstance(message, STREAM_TYPES) else CONTROL
    return HEADER.pack(len(payload), channel) + payload


def decode_command(payload: bytes) -> Command:
    """The command in a payload. Raises FrameError."""
    try:
        return _commands.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a command of protocol {PROTOCOL}: {error}") from error


def decode_event(payload: bytes) -> Event:
    """The event in a payload. Raises FrameError."""
    try:
        return _events.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not an event of protocol {PROTOCOL}: {error}") from error


class FrameReader:
    """Cuts a stream of bytes into frames. Feed it what arrived; it yields (channel, payload) for each whole frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Whole frames so far. Raises FrameError on a header that cannot be one."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, channel = HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME or channel not in (STREAM, CONTROL):
                raise FrameError(f"a frame of {length} bytes on channel {channel}: this is not pagewise speaking")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield channel, payload
