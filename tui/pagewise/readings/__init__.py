"""Every reading, as frozen Structs with units in the field names. Imports nothing but msgspec.

A value that is not known is ``None`` and its reason stands beside it; it is never 0.
"""

from __future__ import annotations

from pagewise.readings.devices import (
    BufferBytes,
    DeviceKind,
    DeviceMemory,
    Devices,
    GgmlDevice,
    LayerPlacement,
    Missing,
    TurnEnergy,
    Where,
)
from pagewise.readings.memory import LayerResidency, Memory, Paging, Residency, Snapshot
from pagewise.readings.profiled import GraphNode, OperatorProfile, StackProfile
from pagewise.readings.streaming import CurvePoint, StreamedLayer, Streaming
from pagewise.readings.turn import LayerClock, TurnTiming, Verdict, percentile
from pagewise.readings.watched import (
    MONITOR_SCHEMA,
    EngineReadings,
    Held,
    HeldModel,
    MonitorSample,
    ServerReadings,
    WatchedModel,
)

__all__ = [
    "MONITOR_SCHEMA",
    "BufferBytes",
    "CurvePoint",
    "DeviceKind",
    "DeviceMemory",
    "Devices",
    "EngineReadings",
    "GgmlDevice",
    "GraphNode",
    "Held",
    "HeldModel",
    "LayerClock",
    "LayerPlacement",
    "LayerResidency",
    "Memory",
    "Missing",
    "MonitorSample",
    "OperatorProfile",
    "Paging",
    "Residency",
    "ServerReadings",
    "Snapshot",
    "StackProfile",
    "StreamedLayer",
    "Streaming",
    "TurnEnergy",
    "TurnTiming",
    "Verdict",
    "WatchedModel",
    "Where",
    "percentile",
]
