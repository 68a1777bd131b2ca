"""A candidate through `septum up`: proposed, asked, told about and promoted, and no call dropped meanwhile."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from backends import HttpEcho
from live import Stream, lasting_backends
from mesh_process import Mesh
from waiting import until

pytestmark = pytest.mark.xdist_group("shadow up")

NOW = """\
allow:
  - {name: shop, from: front, to: orders, http: [GET /orders/{id}, POST /orders, GET /stream]}
"""
THEN = """\
allow:
  - {name: read, from: front, to: orders, http: [GET /orders/{id}, GET /basket, GET /stream]}
  - {name: seen, from: front, to: seen, http: [GET /page]}
"""


class Calling:
    """Calls one after another on a connection of its own, from entering until leaving; every answer is kept."""

    def __init__(self, mesh: Mesh, url: str) -> None:
        self._mesh, self._url = mesh, url
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        connection = self._mesh.connection("front")
        while not self._stop.is_set():
            self.statuses.append(self._mesh.call("front", self._url, connection=connection).status)
        connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def more(self, calls: int = 20) -> None:
        """Wait until so many calls more have been answered."""
        wanted = len(self.statuses) + calls
        until(lambda: len(self.statuses) >= wanted, what="more calls")


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with lasting_backends() as at, HttpEcho() as seen:
        workloads = {
            "front": {},
            "orders": {"at": str(at["http"])},
            "seen": {"at": seen.address, "segment": "edge"},
        }
        with Mesh(workloads, NOW, enforce="[core]") as mesh:
            yield mesh


def _proposed(mesh: Mesh, rules: str = THEN) -> str:
    """A directory with the same mesh and other rules."""
    directory = mesh.directory / "proposed"
    (directory / "policy").mkdir(parents=True, exist_ok=True)
    (directory / "septum.yaml").write_text((mesh.directory / "septum.yaml").read_text())
    (directory / "policy" / "test.yaml").write_text(rules)
    return str(directory)


def _report(mesh: Mesh, asked: int) -> dict[str, Any]:
    """The report, once it is about so many calls."""

    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = mesh.septum("shadow", "report", "--json").json
        return found if found["agreed"] + found["apart"] >= asked else None

    report = until(told, within=20, what=f"{asked} records", says=mesh.logs)
    assert report is not None
    return report


def _difference(one: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("target", "operation", "policy", "rule", "candidate", "candidate_rule", "calls")
    return tuple(one[key] for key in keys)


def test_from_proposing_to_promoting(mesh: Mesh) -> None:
    assert mesh.septum("shadow", "show").code == 1
    outbound = mesh.outbound("front")
    with Calling(mesh, "http://orders/orders/1") as calling:
        stream = Stream(outbound[1], "orders")
        calling.more()
        applied = mesh.septum("shadow", "apply", _proposed(mesh), "--json")
        assert applied.code == 0, applied
        assert applied.json["outcome"] == "held"
        kinds = {kind.rpartition(".")[2] for _, kind, _ in applied.json["resources_changed"]}
        assert kinds == {"RouteConfiguration", "Manifest"}
        calling.more()
        statuses = [
            mesh.call("front", "http://orders/orders", "POST").status,
            mesh.call("front", "http://orders/basket").status,
            mesh.call("front", "http://orders/elsewhere").status,
            mesh.call("front", "http://seen/page").status,
            mesh.call("front", "http://seen/other").status,
        ]
        assert statuses == [200, 403, 403, 200, 200], "nothing that the candidate says is carried out"
        _report(mesh, 5 + 20)
        report = mesh.septum("shadow", "report", "--json")
        assert report.code == 1
        assert [_difference(one) for one in report.json["newly_denied"]] == [
            ("orders", "POST /orders", "allow", "shop", "deny", "", 1)
        ]
        assert sorted(_difference(one) for one in report.json["newly_allowed"]) == [
            ("orders", "GET /basket", "deny", "", "allow", "read", 1),
            ("seen", "GET /page", "deny", "", "allow", "seen", 1),
        ]
        assert report.json["version"] == applied.json["version"]
        text = mesh.septum("shadow", "report").out
        assert "newly denied: 1 call\n" in text
        assert "newly allowed: 2 calls\n" in text
        assert mesh.septum("audit", "--candidate", "differs", "--count").out == "3\n"
        status = mesh.septum("status").out
        assert f"candidate {applied.json['version'][:12]} is asked about all targets, proposed by " in status
        calling.more()
        assert stream.alive(), "no connection was closed"
        promoted = mesh.septum("shadow", "promote", "--json", "-m", "as it was asked")
        assert promoted.code == 0, promoted
        assert promoted.json["version"] == applied.json["version"]
        calling.more()
        stream.close()
    assert set(calling.statuses) == {200}
    assert mesh.call("front", "http://orders/orders", "POST").status == 403
    assert mesh.call("front", "http://orders/basket").status == 200
    assert mesh.septum("shadow", "show").code == 1
    # The record of it stays, and nothing more comes to it.
    assert mesh.record(path="/basket", code=200).get("cv") is None
    assert mesh.septum("shadow", "report", "--json").json["apart"] == 3


def test_a_revision_is_asked_for_one_target_and_outlives_a_restart(mesh: Mesh) -> None:
    _committed(mesh.directory)
    mesh.write_policy(THEN)
    _git(mesh.directory, "commit", "-qam", "other rules")
    mesh.write_policy(NOW)
    assert mesh.septum("shadow", "apply", "HEAD~5").code == 2, "there is no such revision"
    applied = mesh.septum("shadow", "apply", "HEAD", "--target", "orders", "--json")
    assert applied.code == 0, applied
    assert mesh.septum("shadow", "apply", _proposed(mesh), "--json").json["version"] == applied.json["version"]
    assert mesh.septum("shadow", "apply", "HEAD", "--target", "orders").code == 0
    mesh.stop()
    mesh.start().event("ready")
    candidate = mesh.septum("shadow", "show", "--json")
    assert (candidate.code, candidate.json["targets"]) == (0, ["orders"])
    assert mesh.call("front", "http://orders/basket").status == 403
    assert mesh.call("front", "http://seen/page").status == 200
    assert mesh.record(path="/basket")["sp"] == "read"
    assert "sp" not in mesh.record(path="/page")
    stopped = mesh.septum("shadow", "stop")
    assert (stopped.code, stopped.out) == (0, f"the candidate {applied.json['version'][:12]} is not asked any more\n")
    assert mesh.call("front", "http://orders/last").status == 403
    assert "sp" not in mesh.record(path="/last")


def test_a_candidate_that_is_not_valid_is_told_with_its_place(mesh: Mesh) -> None:
    told = mesh.septum("shadow", "apply", _proposed(mesh, "allow: [{from: nobody, to: orders, http: [GET /]}]\n"))
    assert told.code == 1
    assert "SEP203" in told.out
    assert "nothing changed: " in told.out
    assert mesh.septum("shadow", "show").code == 1
    assert "no target is called `noone`" in mesh.septum("shadow", "apply", "--target", "noone").err


def _committed(directory: Path) -> None:
    (directory / ".gitignore").write_text(".septum\nproposed\n")
    _git(directory, "init", "-q")
    _git(directory, "add", ".")
    _git(directory, "commit", "-qm", "first")


def _git(directory: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@test", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=directory, check=True)
