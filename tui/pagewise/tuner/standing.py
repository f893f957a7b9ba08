"""Where the search stands: the best profile so far and what was measured of it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pagewise.settings import Profile


class Standing(NamedTuple):
    """What is not measured is None."""

    profile: Profile
    threads: int
    """Really in use for decode."""
    threads_batch: int
    n_ubatch: int
    flash_attention: bool
    tpot_ms: float | None
    ttft_ms: float | None
    ttft_bound_ms: float | None
    offloaded_layers: int | None = None
    """Really on devices, the output counted as one."""
    host_bytes: int | None = None
    """Weights that a token reads from RAM."""
    link_share: float | None = None
    """Of what the link to a device carries, what crossed it meanwhile."""

    @property
    def in_force(self) -> Profile:
        """The profile with what it leaves open said as it is."""
        return msgspec.structs.replace(
            self.profile,
            threads=self.threads,
            threads_batch=self.threads_batch,
            n_ubatch=self.n_ubatch,
            flash_attention="on" if self.flash_attention else "off",
            repack="on" if self.profile.repack == "on" else "off",
        )
