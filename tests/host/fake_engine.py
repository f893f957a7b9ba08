"""An engine that is a script: the profile's description says, one word for each thing, what goes wrong.

Words for a load: ``refuses`` (and forgets the former profile), ``keeps`` (refuses and still holds the former),
``dies``, ``hangs``, ``hears`` (waits for its Stop and answers it). For a turn: ``mute`` (never answers), ``deaf`` (does
not honour Stop), ``floods`` (does not wait between tokens), ``babbles`` (writes what is no frame), ``aborts`` (says
GGML_ASSERT and ends after three tokens).
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

from pagewise import messages
from pagewise.messages import PROTOCOL, Command, Event, FrameReader, decode_command, encode
from pagewise.readings import LayerClock, LayerPlacement, TurnTiming
from pagewise.settings import Profile

TOKEN_S = 0.002


class FakeEngine:
    def __init__(self) -> None:
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.stopped: set[int] = set()
        self.profile: Profile | None = None

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
                case messages.Generate() as request:
                    self.generate(request)
                case messages.Quit():
                    os._exit(0)

    def load(self, load: messages.Load) -> None:
        words = load.profile.description.split()
        failure = messages.Failure("It was refused", "The script says so.", "Ask for another.")
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
        if "refuses" in words:
            self.profile = None
            self.send(messages.LoadFailed(load.id, failure))
            return
        if "hangs" in words:
            signal.pause()
        if "dies" in words:
            os.kill(os.getpid(), signal.SIGSEGV)
            signal.pause()
        self.profile = load.profile
        self.send(messages.Loaded(load.id, load.profile, model(load.profile), load.change, 5.0))

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
        buffers=(),
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
