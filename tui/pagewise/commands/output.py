"""What commands write to standard output: JSON that any terminal may show, and plain lines."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def as_json(value: Any) -> str:
    """``value`` (Structs, dicts, lists) as indented JSON; characters that act on a terminal are escaped."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8")
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
