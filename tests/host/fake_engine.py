"""An engine that is a script: the profile's description says, one word for each thing, what goes wrong.

Words for a load: ``refuses`` (and forgets the former profile), ``keeps`` (refuses and still holds the former),
``dies``, ``hangs``, ``hears`` (waits for its Stop and answers it). For a turn: ``mute`` (never answers), ``deaf`` (does
not honour Stop), ``floods`` (does not wait between tokens), ``babbles`` (writes what is no frame), ``aborts`` (says
GGML_ASSERT and ends after three tokens).
For a device, whose memory is kept in the file named by ``FAKE_DEVICE``: ``gib:N`` (takes so much of it, and refuses
where there is no room), ``sticky`` (gives it back only with its process), ``robbed:N`` (somebody else takes so much of
it right before it loads).
For a measurement, which takes half as long with two threads: ``endless`` (ends only when it is stopped). For a load
within a tune: ``falls`` (dies of a new context), ``sticks`` (hangs at it), ``loses`` (refuses it, and then has no model
any more), ``lingers`` (takes a while for it, and says so in the file ``FAKE_ENGINE_LOADS``, which has a line for each
load).
For a trial of the tuner: ``crashes:KEY=VALUE`` (a segmentation fault where the profile has that), ``resets:KEY=VALUE``
(aborts as a driver's fault does), ``illegal:KEY=VALUE`` (lacks an instruction), all in the measurement, and
``refuses:KEY=VALUE`` in the load.
For its start: the file named by ``FAKE_ENGINE_DEAD``, where it exists, makes it end at once.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path

import fake_device

from pagewise import messages
from pagewise.jobs.base import JobFailed
from pagewise.jobs.measure import Measure, Measured
from pagewise.jobs.plan import MakePlan
from pagewise.messages import PROTOCOL, Command, Event, FrameReader, decode_command, encode
from pagewise.readings import BufferBytes, LayerClock, LayerPlacement, TurnTiming
from pagewise.settings import Profile

TOKEN_S = 0.002
REFUSED = messages.Failure("It was refused", "The script says so.", "Ask for another.")


def gib(word: str, prefix: str) -> int:
    """The bytes that a word such as ``gib:4`` names."""
    return int(word.removeprefix(prefix)) << 30 if word.startswith(prefix) else 0


class FakeEngine:
    def __init__(self) -> None:
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.stopped: set[int] = set()
        self.profile: Profile | None = None
        self.holds = 0

    def send(self, event: Event) -> None:
        os.write(1, encode(event))

    def read(self) -> None:
        frames = FrameReader()
        while data := os.read(0, 65536):
            for _, payload in frames.feed(data):
                command = decode_command(payload)
                if isinstance(command, messages.Stop):
                    self.stopped.add(command.id)
                else:
                    self.commands.put(command)
        os._exit(0)

    def run(self) -> None:
        threading.Thread(target=self.read, daemon=True).start()
        while True:
            match self.commands.get():
                case messages.Hello():
                    self.send(messages.EngineHello(PROTOCOL, os.getpid(), "script", "none", ()))
                case messages.Load() as load:
                    self.load(load)
                case messages.Unload() as unload:
                    self.unload(unload)
                case messages.Generate() as request:
                    self.generate(request)
                case Measure() as wanted:
                    self.measure(wanted)
                case MakePlan() as wanted_plan:
                    self.send(JobFailed(wanted_plan.id, REFUSED))
                case messages.Quit():
                    fake_device.change(ours=-self.holds)
                    os._exit(0)

    def unload(self, unload: messages.Unload) -> None:
        words = unload.profile.description.split()
        if "keeps" in words:
            held = self.profile.name if self.profile else None
            self.send(messages.LoadFailed(unload.id, REFUSED, restored=held))
            return
        self.let_go()
        self.send(messages.Unloaded(unload.id, 12 if self.profile else 0))
        self.profile = None

    def let_go(self) -> None:
        if self.profile is not None and "sticky" not in self.profile.description.split():
            fake_device.change(ours=-self.holds)
            self.holds = 0

    def load(self, load: messages.Load) -> None:
        words = load.profile.description.split()
        failure = REFUSED
        if loads := os.environ.get("FAKE_ENGINE_LOADS"):
            with open(loads, "a") as file:
                file.write(f"{load.change} {load.profile.n_ubatch}\n")
        if load.change == "context" and "falls" in words:
            os.kill(os.getpid(), signal.SIGSEGV)
            signal.pause()
        if load.change == "context" and "sticks" in words:
            signal.pause()
        if load.change == "context" and "loses" in words:
            self.profile = None
            self.send(messages.LoadFailed(load.id, failure))
            return
        if load.change == "context" and "lingers" in words:
            time.sleep(0.5)
        held = self.profile.name if self.profile else None
        if load.change in ("model", "process"):
            self.send(messages.LoadProgress(load.id, "weights", 0, 100))
        if "keeps" in words:
            self.send(messages.LoadFailed(load.id, failure, restored=held))
            return
        if "hears" in words:
            self.wait_for_stop(load.id)
            self.send(messages.LoadFailed(load.id, failure, cancelled=True, restored=held))
            return
        if "refuses" in words or any(self.holds_of(word, "refuses", load.profile) for word in words):
            self.profile = None
            self.send(messages.LoadFailed(load.id, failure))
            return
        if "hangs" in words:
            signal.pause()
        if "dies" in words:
            os.kill(os.getpid(), signal.SIGSEGV)
            signal.pause()
        if load.change in ("model", "process"):
            self.let_go()
            fake_device.change(others=sum(gib(word, "robbed:") for word in words))
            needs = sum(gib(word, "gib:") for word in words)
            if needs > fake_device.free():
                self.profile = None
                self.send(messages.LoadFailed(load.id, messages.Failure("No room", "The device is full.", "Wait.")))
                return
            fake_device.change(ours=needs)
            self.holds += needs
        self.profile = load.profile
        self.send(messages.Loaded(load.id, load.profile, model(load.profile), load.change, 5.0))

    def measure(self, wanted: Measure) -> None:
        assert self.profile is not None
        for word in self.profile.description.split():
            self.perhaps_die(word, self.profile)
        if "endless" in self.profile.description.split():
            self.wait_for_stop(wanted.id)
        if wanted.id in self.stopped:
            self.send(JobFailed(wanted.id, REFUSED, cancelled=True))
            return
        step_ns = 2_000_000 // max(1, self.profile.threads)
        prefill_ns, decode_ns = wanted.n_prompt * 100_000, (wanted.n_output - 1) * step_ns
        self.send(Measured(wanted.id, prefill_ns, decode_ns, prefill_ns, wanted.n_prompt, wanted.n_output))

    def holds_of(self, word: str, how: str, profile: Profile) -> bool:
        """Whether ``word`` is such as ``how:KEY=VALUE``, and the profile has that."""
        said, _, condition = word.partition(":")
        key, _, value = condition.partition("=")
        return said == how and bool(key) and str(getattr(profile, key)) == value

    def perhaps_die(self, word: str, profile: Profile) -> None:
        how = word.partition(":")[0]
        if how not in ("crashes", "resets", "illegal") or not self.holds_of(word, how, profile):
            return
        if how == "resets":
            os.write(2, b"CUDA error: unspecified launch failure\n")
            os.abort()
        os.kill(os.getpid(), signal.SIGSEGV if how == "crashes" else signal.SIGILL)
        signal.pause()

    def generate(self, request: messages.Generate) -> None:
        assert self.profile is not None
        words = self.profile.description.split()
        if "mute" in words:
            signal.pause()
        if "babbles" in words:
            os.write(1, b"llama_model_load: loading tensors\n")
            signal.pause()
        limit = (request.sampling or self.profile.sampling).max_tokens or 20
        reason: messages.StopReason = "length"
        for n in range(limit):
            if request.id in self.stopped and "deaf" not in words:
                reason = "stopped"
                break
            if n == 3 and "aborts" in words:
                os.write(2, b"model.cpp:12: GGML_ASSERT(n_tokens > 0) failed\n")
                os.abort()
            self.send(messages.Tokens(request.id, (n,), f" {n}", n + 1, n + 11, 2.0))
            if "floods" not in words:
                time.sleep(TOKEN_S)
        clock = LayerClock(2, 2.0, ("input", "0", "output"), (0.1, 1.5, 0.4), ("CPU",) * 3, (), (), 0.0)
        self.send(messages.Layers(request.id, clock))
        self.send(messages.Finished(request.id, reason, timing(n + 1)))

    def wait_for_stop(self, id: int) -> None:
        while id not in self.stopped:
            time.sleep(0.005)


def timing(n_output: int) -> TurnTiming:
    return TurnTiming(
        ttft_ms=5.0,
        queue_ms=0.1,
        template_ms=0.2,
        prefill_ms=4.0,
        first_sample_ms=0.1,
        ttft_text_ms=5.0,
        tpot_ms=2.0,
        itl_ms=(2.0,) * max(0, n_output - 1),
        n_prompt=10,
        n_reused=0,
        n_output=n_output,
        depth=11,
        kv_used=10 + n_output,
        n_ctx=1024,
        loop_cost_ms=0.05,
        n_probed=1,
        probe_cost_pct=None,
        cold=True,
    )


def model(profile: Profile) -> messages.ModelInfo:
    placement = tuple(LayerPlacement(name, "CPU", "mapped", 1000, 0, 0) for name in ("input", "0", "output"))
    taken = sum(gib(word, "gib:") for word in profile.description.split())
    return messages.ModelInfo(
        path=profile.model,
        name="script",
        architecture="llama",
        quant="F16",
        n_params=1500,
        file_bytes=3000,
        n_layer=1,
        n_ctx=1024,
        n_ctx_train=1024,
        n_batch=512,
        n_ubatch=512,
        threads=1,
        threads_batch=1,
        flash_attention=False,
        load_mode="mmap",
        repacked=False,
        has_chat_template=True,
        vocabulary="v",
        placement=placement,
        buffers=(BufferBytes("FAKE0", "FAKE0", "weights", taken),) if taken else (),
        offloaded_layers=0,
        bytes_per_token=2000,
        kv_bytes_per_token=16,
        load_ms=4.0,
        context_ms=1.0,
    )


if __name__ == "__main__":
    dead = os.environ.get("FAKE_ENGINE_DEAD")
    if dead and Path(dead).exists():
        sys.exit(3)
    FakeEngine().run()
