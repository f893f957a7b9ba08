"""RAM that this process may still take."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]  # it ships no types

from pagewise.placement.available import memory_accounts


def available_bytes() -> int:
    """RAM that can be had without swapping: the box's, or what our cgroup's limit leaves if that is less."""
    left = psutil.virtual_memory().available
    limit = _left_in_cgroup()
    return int(left if limit is None else min(left, limit))


def total_bytes() -> int:
    """RAM of the box, or our cgroup's limit if that is less."""
    limits = [account.limit for account in memory_accounts() if account.limit is not None]
    return int(min([psutil.virtual_memory().total, *limits]))


def _left_in_cgroup() -> int | None:
    lefts = []
    for account in memory_accounts():
        limit, usage = account.limit, account.usage
        if limit is not None and usage is not None:
            stat = account.stat()
            # Page cache that the kernel would give up first.
            reclaimable = stat.get("total_inactive_file", stat.get("inactive_file", 0))
            lefts.append(max(0, limit - usage + reclaimable))
    return min(lefts, default=None)
