"""The laws of the replay: what it says of a recorded request is what both policies decide about it now."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import event, given, settings
from hypothesis import strategies as st
from test_diff_laws import NOW, asked, meeting, pairs

from septum.audit.parcel import Position
from septum.audit.replay import replay
from septum.audit.store import Store
from septum.model.claims import NO_TOKEN
from septum.model.decision import Request
from septum.model.mesh import Protocol
from septum.model.operation import ConnectOperation, HttpOperation
from septum.model.policy import Policy
from septum.model.record import Record
from septum.plan.replayed import Now
from septum.policy.decide import decide, goes_through
from septum.verify.diff import Diff, diff

MOST = 6


@given(pairs(), st.integers(0, 9999))
@settings(max_examples=25)
def test_what_the_replay_says_of_a_request_is_so_with_every_token(policies: tuple[Policy, Policy], seed: int) -> None:
    old, new = policies
    found = diff(old, new, NOW)
    for request in asked(policies, seed)[:MOST]:
        if isinstance(request.operation, ConnectOperation) and not _is_tcp(policies, request.target):
            continue  # a tunnel, of which the replay says nothing
        became = _replayed(policies, found, request)
        event(str(became))
        outcomes = {_outcome(policies, replace(request, time=NOW, claims=claims)) for claims in _tokens(policies)}
        if became is not Now.UNKNOWN:
            if became is None:
                assert all(before == after for before, after in outcomes), (request, outcomes)
            else:
                assert outcomes == {_SAID[became]}, (request, became, outcomes)
                assert became.startswith("would be") == _observed(policies, request)
        else:
            assert any(rule.when for one in policies for rule in one.rules_to.get(request.target, ()))


_SAID = {
    Now.DENIED: (True, False),
    Now.ALLOWED: (False, True),
    Now.WOULD_BE_DENIED: (True, False),
    Now.WOULD_BE_ALLOWED: (False, True),
}


def _observed(policies: tuple[Policy, Policy], request: Request) -> bool:
    """Whether it passes in both policies whatever the rules say."""
    nothing = [replace(one, rules=()) for one in policies]
    return all(goes_through(one, request) for one in nothing)


def _outcome(policies: tuple[Policy, Policy], request: Request) -> tuple[bool, bool]:
    """What passes, or what rules say where everything does."""
    if _observed(policies, request):
        before, after = (decide(one, request).allowed for one in policies)
    else:
        before, after = (goes_through(one, request) for one in policies)
    return before, after


def _tokens(policies: tuple[Policy, Policy]) -> list[dict[str, object]]:
    rules = [rule for one in policies for rule in one.rules if rule.when]
    return [dict(NO_TOKEN), *({name: meeting(test) for name, test in rule.when.claims} for rule in rules if rule.when)]


def _is_tcp(policies: tuple[Policy, Policy], name: str) -> bool:
    known = [target for one in policies if (target := one.mesh.target(name)) is not None]
    return all(target.protocol is Protocol.TCP for target in known)


def _replayed(policies: tuple[Policy, Policy], found: Diff, request: Request) -> Now | None:
    old, new = policies
    with TemporaryDirectory() as directory:
        path = Path(directory) / "d.db"
        with closing(Store(path)) as store:
            store.write("n", [_record(request)], Position(), {})
        groups = replay(path, old, new, found, NOW - 100.0, NOW).groups
    return groups[0].now if groups else None


def _record(request: Request) -> Record:
    fields = dict.fromkeys(Record._fields, "") | {"status": 200, "bytes_received": 0, "bytes_sent": 0, "open": False}
    fields |= {"time": NOW - 50.0, "duration": 1.0, "upstream_duration": 1.0, "caller": request.caller}
    match request.operation:
        case HttpOperation(method, path, websocket):
            fields |= {"protocol": "websocket" if websocket else "http", "method": method, "path": path}
        case _:
            fields |= {"protocol": "tcp", "method": "connect"}
    return Record(**fields | {"target": request.target})
