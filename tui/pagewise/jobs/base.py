"""What all kinds of jobs have in common: the request, how far it is, and how it ends."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pagewise.failure import Failure


class JobRequest(Struct, frozen=True):
    """Base of each command that asks for a job."""

    id: int


class JobAnswer(Struct, frozen=True):
    """Base of each event with which a job ends; there is one for each request."""

    id: int


class JobWish(Struct, frozen=True):
    """Base of each command that is for a job that runs."""

    id: int


class JobNews(Struct, frozen=True):
    """Base of each event about a job that goes on."""

    id: int


class JobProgress(JobNews, frozen=True, tag=True):
    """Job ``id`` is at ``done`` of ``total``; ``total`` 0: how much there is to do is not known."""

    phase: str
    """What is being done, in a word or two that can be shown."""
    done: int
    total: int
    unit: Literal["bytes", "items"] = "items"
    detail: str = ""
    """What it is at, such as a tensor's or a file's name: data, to be cleaned before it is shown."""


class JobFailed(JobAnswer, frozen=True, tag=True):
    """Job ``id`` is over without what was asked. ``cancelled``: because the person stopped it."""

    failure: Failure
    cancelled: bool = False
