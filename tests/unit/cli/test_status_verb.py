"""`septum status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Ran, septum, write_mesh
from fakes.control_plane import FakeControlPlane, node, status
from meshes import SHOP, SHOP_RULES, policy
from septum.control.state import StateError
from septum.policy.quarantine import quarantined

REFUSAL = {"type_url": "type.googleapis.com/x.Listener", "name": "outbound/front", "version": "v", "reason": " in use "}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakeControlPlane]:
    write_mesh(tmp_path, SHOP, rules=SHOP_RULES)
    enforced = status(version=policy(SHOP_RULES).version)
    with FakeControlPlane(tmp_path, {"status": enforced}) as plane:
        yield plane


def show(plane: FakeControlPlane, mesh: Path, *arguments: str, **differs: object) -> Ran:
    answer = plane.answers["status"]
    assert isinstance(answer, dict)
    plane.answers["status"] = answer | differs
    return septum("status", *arguments, cwd=mesh)


def rows(ran: Ran) -> dict[str, list[str]]:
    """The rows of the table of nodes, by node."""
    after = ran.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in after}


def test_all_is_well(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert f"mesh shop  version {policy(SHOP_RULES).version[:12]}  applied 2026-09-" in ran.out
    assert "by ada" in ran.out
    assert rows(ran)["here"] == ["held", "0123456789ab", "26/26", "now", "-", "up", "to", "date"]
    assert "records  7 kept" in ran.out
    assert "\x1b" not in ran.out
    assert [line.split() for line in ran.out.splitlines()[-5:-2]] == [
        ["front", "edge", "observe", "http", "127.0.0.1:9101", "127.0.0.1:9151"],
        ["big-store", "at", "127.0.0.1:9201"],
        ["big-store", "data", "enforce", "tcp", "127.0.0.1:9102", "127.0.0.1:9152"],
    ]


def test_a_refusal_is_shown_with_its_reason(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(held=False, rejected=[REFUSAL, REFUSAL | {"name": "b"}])])
    assert ran.status == 1
    assert rows(ran)["here"][0] == "refused"
    assert "outbound/front: in use; b: in use" in ran.out


def test_a_node_that_holds_a_part(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(held=False, version=None, resources_held=20)])
    assert (ran.status, rows(ran)["here"][:3]) == (1, ["missing", "-", "20/26"])


def test_a_node_that_holds_what_is_not_enforced_any_more(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(held=False, version="fedcba9876543210")])
    assert (ran.status, rows(ran)["here"][:2]) == (1, ["missing", "fedcba987654"])


def test_a_node_that_is_not_there(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, nodes=[node(connected=False, held=False)])
    assert (ran.status, rows(ran)["here"][-2:]) == (1, ["not", "connected"])
    ran = show(plane, tmp_path, nodes=[node(connected=False, held=False, last_seen=None)])
    assert (ran.status, rows(ran)["here"][-2:]) == (1, ["never", "seen"])


def test_several_nodes_and_what_each_is_not_well_by(plane: FakeControlPlane, tmp_path: Path) -> None:
    now = time.time()
    nodes = [
        node(node="alpha", certificate_end=now + 7230, troubles=["its clock is 61 s ahead"]),
        node(node="beta", standing="removed", held=False, connected=False, last_seen=now - 3.0e5, version=None),
        node(node="gamma", standing="draining", held=False, drained=True),
        node(node="delta", standing="draining", held=False, records={"lost": 3}),
    ]
    ran = show(plane, tmp_path, nodes=nodes)
    assert ran.status == 0, "what was removed or is drained may hold what it likes"
    found = rows(ran)
    assert found["alpha"][3:] == ["now", "2", "h", "up", "to", "date", "its", "clock", "is", "61", "s", "ahead"]
    assert found["beta"][:6] == ["removed", "-", "26/26", "3", "d", "ago"]
    assert (found["gamma"][0], found["delta"][0], found["delta"][-2:]) == ("drained", "draining", ["3", "lost"])


def test_who_is_in_quarantine(plane: FakeControlPlane, tmp_path: Path) -> None:
    shut = quarantined(policy(SHOP_RULES), ["orders", "ledger"])
    ran = show(plane, tmp_path, quarantined=["ledger", "orders"], version=shut.version)
    assert "in quarantine: ledger, orders" in ran.out
    assert "the files differ" not in ran.out, "the files are what is enforced, quarantine aside"


def test_workloads_of_several_nodes_say_where_they_are(plane: FakeControlPlane, tmp_path: Path) -> None:
    front, store = status()["workloads"]
    ran = show(plane, tmp_path, workloads=[front | {"node": "alpha"}, store | {"node": "beta"}])
    assert [line.split() for line in ran.out.splitlines()[-5:-2]] == [
        ["front", "edge", "observe", "http", "alpha", "127.0.0.1:9101", "127.0.0.1:9151"],
        ["big-store", "at", "127.0.0.1:9201"],
        ["big-store", "data", "enforce", "tcp", "beta", "127.0.0.1:9102", "127.0.0.1:9152"],
    ]


@pytest.mark.parametrize(
    ("records", "said", "code"),
    [
        ({"lost": 3}, "3 decisions were made and could not be written", 1),
        ({"stalled": "No space left on device"}, "not written since: No space left on device", 1),
        ({"unreadable": 2}, "2 lines could not be read", 0),
        ({"disagreements": 1}, "1 times the proxy and the policy disagreed", 0),
    ],
)
def test_records_that_are_not_well(
    plane: FakeControlPlane, tmp_path: Path, records: dict[str, object], said: str, code: int
) -> None:
    ran = show(plane, tmp_path, records={"ingested": 7} | records)
    assert (ran.status, said in ran.out) == (code, True)


def test_files_that_were_not_applied(plane: FakeControlPlane, tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules="allow: []\n")
    ran = show(plane, tmp_path)
    assert (ran.status, "the files differ from what is enforced: septum apply" in ran.out) == (0, True)


def test_files_that_have_errors(plane: FakeControlPlane, tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP, rules="allow: nonsense\n")
    assert "the files have errors: septum check" in show(plane, tmp_path).out


def test_nothing_was_ever_applied(plane: FakeControlPlane, tmp_path: Path) -> None:
    assert "applied never" in show(plane, tmp_path, applied=None, author="", workloads=[], records={}).out


def test_everything_as_json(plane: FakeControlPlane, tmp_path: Path) -> None:
    ran = show(plane, tmp_path, "--json")
    assert json.loads(ran.out) == json.loads(json.dumps({**plane.answers["status"], "files": "enforced", "grants": []}))


def test_a_state_that_cannot_be_read(plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.answers["status"] = StateError("state.db: disk I/O error")
    ran = septum("status", cwd=tmp_path)
    assert (ran.status, "state.db: disk I/O error" in ran.err) == (1, True)


def test_a_mesh_that_is_not_up(tmp_path: Path) -> None:
    write_mesh(tmp_path, SHOP)
    ran = septum("status", cwd=tmp_path)
    assert (ran.status, ran.out) == (1, "")
    assert f"septum up {tmp_path}" in ran.err


def test_a_version_on_trial_is_shown_with_the_time_that_is_left(plane: FakeControlPlane, tmp_path: Path) -> None:
    trial = {"number": 7, "version": "b" * 64, "confirm_by": 0.0, "seconds_left": 41.6, "falls_back": 5, "trouble": ""}
    shown = show(plane, tmp_path, provisional=trial)
    assert shown.status == 0
    assert "version 7 goes back to version 5 in 42 s: `septum confirm` lets it stay" in shown.out
    assert "  the disk is full\n" in show(plane, tmp_path, provisional=trial | {"trouble": "the disk is full"}).out


def test_a_version_that_went_back_by_itself_is_shown_with_the_reason(plane: FakeControlPlane, tmp_path: Path) -> None:
    back = {"at": time.time() - 30, "from": "b" * 64, "to": 5, "number": 8, "why": "it was not confirmed in time"}
    shown = show(plane, tmp_path, rolled_back=back)
    said = f"version {'b' * 12} was rolled back by itself 30 s ago: it was not confirmed in time"
    assert (shown.status, said in shown.out) == (0, True)


def test_a_stored_version_that_is_not_used_is_said(plane: FakeControlPlane, tmp_path: Path) -> None:
    shown = show(plane, tmp_path, unused="version 2 is not what was stored", version="", applied=None, nodes=[])
    assert (shown.status, "the nodes keep what they hold: version 2 is not what was stored" in shown.out) == (1, True)
