"""A policy test: requests, and what the policy should decide about each of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from septum.model.claims import NO_TOKEN, Claims
from septum.model.decision import Effect, Request
from septum.model.diagnostic import Span
from septum.model.operation import Operation


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a case. `sent` is the operation as a client would send it, before the proxies normalise it."""

    caller: str
    target: str
    operation: Operation
    sent: str


@dataclass(frozen=True, slots=True)
class Case:
    """Calls that should all be decided alike: a segment as caller or target stands for each of its members.

    `by` is the rule that should allow them (empty: any). `at` is when they are asked, in seconds since 1970 (None: when
    the test is run). `text` says the case as it is written, `span` where.
    """

    calls: tuple[Call, ...]
    expect: Effect
    by: str = ""
    claims: Claims = field(default_factory=lambda: NO_TOKEN)
    at: int | None = None
    name: str = ""
    because: str = ""
    text: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """What it is called: its name, or else what it asks."""
        return self.name or self.text

    def request(self, call: Call, now: float) -> Request:
        """What is decided about one of its calls, when the test is run at `now`."""
        return Request(call.caller, call.target, call.operation, self.claims, now if self.at is None else self.at)
