"""`septum grant`, from the command to the end of the last live call, with the control plane there and without it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from live import Live, Session, Stream, ended, lasting_backends, lasts
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("grant end")

# Seconds after which a cut connection is closed, and what a machine that is busy may need besides.
DRAIN, BUSY = 3.0, 3.0
OTHERS = """\
allow:
  - {name: other-store, from: other, to: store}
  - {name: other-orders, from: other, to: orders, http: [GET /stream]}
"""


@contextmanager
def running() -> Iterator[Mesh]:
    with lasting_backends() as at:
        workloads: dict[str, dict[str, Any]] = {
            "front": {"dials": ["store"]},
            "other": {"dials": ["store"]},
            "orders": {"at": str(at["http"])},
            "store": {"at": str(at["tcp"]), "protocol": "tcp"},
        }
        with Mesh(workloads, OTHERS) as mesh:
            yield mesh


def grant(mesh: Mesh, target: str, operation: str, lasts: str) -> dict[str, Any]:
    """A grant for `front`, held."""
    given = mesh.septum("grant", "front", target, operation, "--for", lasts, "--because", "a test", "--json")
    assert given.code == 0, given
    made: dict[str, Any] = given.json
    assert made["applied"]["outcome"] == "held"
    return made["grant"]


def session(mesh: Mesh, caller: str) -> Live:
    return Session(mesh.dial(caller, "store")[1])


def opens(mesh: Mesh) -> bool:
    """Whether a new session of `front` comes to the store."""
    try:
        session(mesh, "front").close()
    except (AssertionError, OSError):
        return False
    return True


def test_live_calls_of_a_grant_end_with_it_and_others_go_on() -> None:
    with running() as mesh:
        over_http = grant(mesh, "orders", "GET /stream", "6s")
        over_tcp = grant(mesh, "store", "connect", "5s")
        calls = [session(mesh, "front"), Stream(mesh.outbound("front")[1], "orders")]
        theirs = [session(mesh, "other"), Stream(mesh.outbound("other")[1], "orders")]
        assert all(call.alive() for call in calls)
        for call, made in zip(calls, (over_tcp, over_http), strict=True):
            ended(call, within=6 + DRAIN + BUSY)
            late = time.time() - made["until"]
            print(f"{made['rule']}: its live call ended {late:.2f} s after it")
            assert -0.1 < late < DRAIN + BUSY
        assert all(lasts(call, 0.3) for call in theirs)
        assert not opens(mesh)
        for call in (*calls, *theirs):
            call.close()
        listed = mesh.septum("grants", "--json").json
        assert (listed["of"], [one["stands"] for one in listed["grants"]]) == ("enforced", ["ended", "ended"])
        status = mesh.septum("status")
        assert "2 grants have ended" in status.out
        until(lambda: mesh.records(target="orders"), within=15, what="the record of the stream")
        assert not mesh.septum("status", "--json").json["records"].get("disagreements")


def test_without_a_control_plane_nothing_new_begins_and_what_is_live_ends_when_it_is_back() -> None:
    with running() as mesh:
        made = grant(mesh, "store", "connect", "4s")
        live = session(mesh, "front")
        control, seen = mesh.pid("control"), len(mesh.up.events)
        os.kill(control, signal.SIGSTOP)
        until(lambda: time.time() >= made["until"], within=10, what="the end of the grant")
        assert not opens(mesh)
        assert lasts(live, 1.0)
        os.kill(control, signal.SIGKILL)
        mesh.up.event("started", after=seen, process="control")
        ended(live, within=10 + DRAIN + BUSY)
        live.close()
        assert not opens(mesh)
        assert mesh.septum("history").out.count("the end of a grant") == 1


def test_a_grant_that_is_refused_leaves_the_file_as_it_was() -> None:
    with running() as mesh:
        mesh.write_policy("allow:\n  - {name: more, from: other, to: front, http: [GET /x]}\n", "more")
        differing = mesh.septum("grant", "front", "store", "connect", "--for", "1h", "--because", "a test")
        assert (differing.code, "the files differ from what is enforced" in differing.err) == (1, True)
        assert not (mesh.directory / "policy" / "grants.yaml").exists()
        mesh.apply()
        first = grant(mesh, "store", "connect", "1h")
        text = (mesh.directory / "policy" / "grants.yaml").read_text()
        again = mesh.septum("grant", "front", "store", "connect", "--for", "30m", "--because", "again")
        assert (again.code, f"{first['rule']} allows all of it already" in again.err) == (1, True)
        assert (mesh.directory / "policy" / "grants.yaml").read_text() == text
        names = {path.name for path in (mesh.directory / "policy").iterdir()}
        assert names == {"grants.yaml", "more.yaml", "test.yaml"}
