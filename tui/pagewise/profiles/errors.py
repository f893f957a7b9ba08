"""What is wrong with a profile, in words a person can act on."""

from __future__ import annotations

from pagewise.messages import Failure


class ProfileError(Exception):
    """A profile that cannot be used. ``failure`` names the file and line where there is one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.what}: {failure.why}")
        self.failure = failure
