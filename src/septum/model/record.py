"""One decision as it is kept: the same fields on an allow and on a deny."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """A request, what was decided about it and what came of it.

    `time` is seconds since 1970 (UTC), `duration` and `upstream_duration` are milliseconds. `decision` is what
    happened; `would_be` is what the policy says, which differs only where the target is observed. `rule` is the rule
    that allows, `nearest` the one that came closest when none does, and `reason` the one thing that did not match.
    `jwt_issuer` and `jwt_subject` are the `iss` and `sub` of an end user's token that was verified; nothing else of it
    is kept. `candidate` is what a candidate said beside it (empty: none was asked), with the rule by which it allows
    and its version. `path` has no query. An `open` record says that the call had not ended when it was written: it has
    a second record when it ends, with the same request id.

    A tuple, because tens of thousands are made a second: a frozen dataclass takes a fifth of the time of a record.
    """

    time: float
    request_id: str
    trace_id: str
    node: str
    caller: str
    target: str
    protocol: str
    method: str
    path: str
    decision: str
    mode: str
    would_be: str
    rule: str
    nearest: str
    reason: str
    jwt_issuer: str
    jwt_subject: str
    policy_version: str
    candidate: str
    candidate_rule: str
    candidate_version: str
    status: int
    flags: str
    bytes_received: int
    bytes_sent: int
    duration: float
    upstream: str
    upstream_duration: float
    open: bool = False
