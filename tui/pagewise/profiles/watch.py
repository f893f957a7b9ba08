"""Whether the files of the user's profiles have changed since they were last looked at."""

from __future__ import annotations

from pathlib import Path

Seen = dict[str, tuple[int, int, int]]
"""Of each file: when it was changed (ns), its bytes, its inode."""


def look(folder: Path) -> Seen:
    """The profiles in ``folder`` as they are now. A folder that cannot be read has none."""
    seen: Seen = {}
    try:
        for path in folder.iterdir():
            if path.suffix == ".toml":
                stat = path.stat()
                seen[path.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:
        # It is replaced, or gone, at this moment: the next look sees what came of it.
        return seen
    return seen
