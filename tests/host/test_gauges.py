"""What the host makes of all instruments together."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.instruments.fake_nvml import GIB, FakeNvml
from tests.synthetic import make_model

from pagewise.host.gauges import Gauges
from pagewise.instruments.nvidia import NvidiaInstrument
from pagewise.readings import LayerPlacement


class Emptying(FakeNvml):
    """A device that gives memory back a piece at a time, as after the end of a process."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 6 * GIB
        self.steps = 4

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> object:
        if self.steps:
            self.steps -= 1
            self.used -= GIB
        return super().nvmlDeviceGetMemoryInfo(handle)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Emptying:
    device = Emptying()
    monkeypatch.setattr("pagewise.instruments.devices.NvidiaInstrument", lambda: NvidiaInstrument(device))
    return device


def test_our_share_counts_from_when_the_former_engine_has_given_its_memory_back(nvml: Emptying) -> None:
    gauges = Gauges()
    gauges.before_engine()
    nvml.used += 3 * GIB
    gauges.look_at(1, None, [LayerPlacement("0", "CUDA0", "device", 0, 0, 3 * GIB)])
    (device,) = gauges.sample().devices.devices
    assert (device.ours_bytes, device.ours_is_estimate) == (3 * GIB, True)


def test_a_model_file_that_cannot_be_read_costs_nothing_but_its_residency(tmp_path: Path) -> None:
    gauges = Gauges()
    for name, content in (("empty", b""), ("short", make_model().read_bytes()[:100]), ("other", b"hello there")):
        path = tmp_path / name
        path.write_bytes(content)
        gauges.look_at(1, path)
        snapshot = gauges.sample()
        assert snapshot.residency is None and snapshot.memory.total_bytes > 0
    gauges.look_at(None, tmp_path / "none")
    assert gauges.sample().paging is None


def test_what_is_looked_at_changes(tmp_path: Path) -> None:
    gauges = Gauges()
    gauges.look_at(1, make_model())
    first = gauges.sample()
    assert first.engine_pid == 1 and first.residency is not None and first.paging is not None
    gauges.look_at(None, None)
    second = gauges.sample()
    assert second.engine_pid is None and second.residency is None and second.paging is None
