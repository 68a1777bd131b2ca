"""Versions through a real `septum up`: on trial, rolled back, guarded, signed; and killed at every step."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from backends import HttpEcho, answer, echo
from mesh_process import SEPTUM, Mesh
from waiting import until

from septum.control import api
from septum.control.files import read_mesh_dir
from septum.control.versions import Ended, Versions
from septum.plan.made import Planned, plan_of
from septum.plan.sealed import to_json
from septum.policy.load import load
from septum.verify.diff import diff

pytestmark = pytest.mark.xdist_group("changing the policy")

OLD = """\
allow:
  - {name: open, from: front, to: orders, http: [GET /open, GET /healthz, GET /metrics]}
"""
NEW = OLD.replace("GET /open", "GET /open, GET /new")
WITHOUT_OPEN = OLD.replace("GET /open, ", "")
OPEN_URL, NEW_URL, METRICS_URL = "http://orders/open", "http://orders/new", "http://orders/metrics"


class Service:
    """Answers everything; its health can be switched off."""

    def __init__(self) -> None:
        self.ill = threading.Event()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/broken" or (handler.path == "/healthz" and self.ill.is_set()):
            handler.send_error(503)
        elif handler.path == "/healthz":
            answer(handler, b"ok")
        else:
            echo(handler)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def mesh(service: Service) -> Iterator[Mesh]:
    """Another mesh for each test: its history is what is asked about."""
    with HttpEcho(service.respond) as backend:
        workloads: dict[str, dict[str, Any]] = {"front": {}, "orders": {"at": backend.address, "health": "/healthz"}}
        with Mesh(workloads, OLD) as mesh:
            yield mesh


def enforced(mesh: Mesh) -> str:
    """What real requests meet: the old rules, the new ones, or something that neither says."""
    answers = (mesh.status("front", OPEN_URL), mesh.status("front", NEW_URL))
    return {(200, 403): "old", (200, 200): "new", (403, 403): "without open"}.get(answers, f"mixed: {answers}")


def history(mesh: Mesh) -> list[tuple[int, Ended]]:
    with Versions.open(mesh.state) as versions:
        return [(entry.version.number, entry.ended) for entry in versions.history()]


def status(mesh: Mesh) -> dict[str, Any]:
    """How things are, or nothing while nobody answers."""
    try:
        return api.call(mesh.state, "status")
    except api.NotRunningError:
        return {}


def health(mesh: Mesh) -> dict[str, bool]:
    """Which workloads pass their health checks, as their node reported it last."""
    health: dict[str, bool] = status(mesh)["nodes"][0]["health"]
    return health


def test_applied_on_trial_and_confirmed_it_stays_also_after_a_restart(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    applied = mesh.septum("apply", "--confirm", "2s", "-m", "more")
    assert (applied.code, "it goes back by itself in 2 s" in applied.out) == (0, True)
    assert mesh.septum("confirm").code == 0
    confirmed = time.monotonic()
    os.kill(mesh.pid("control"), signal.SIGKILL)
    until(lambda: time.monotonic() > confirmed + 3 and status(mesh), what="the time is over", says=mesh.logs)
    assert enforced(mesh) == "new"
    assert history(mesh) == [(2, Ended.ENFORCED), (1, Ended.REPLACED)]


def test_without_a_word_it_goes_back_and_says_so(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "6s").code == 0
    assert enforced(mesh) == "new"
    shown = mesh.septum("status")
    assert "version 2 goes back to version 1 in" in shown.out
    until(lambda: enforced(mesh) == "old", what="the old rules", says=mesh.logs)
    shown = until(lambda: mesh.septum("status").out, what="the status")
    assert "was rolled back by itself" in shown
    assert "it was not confirmed in time" in shown
    assert history(mesh) == [(3, Ended.ENFORCED), (2, Ended.ROLLED_BACK), (1, Ended.REPLACED)]
    assert "a version was rolled back by itself" in (mesh.state / "septum.log").read_text()
    assert "it was not confirmed in time" in mesh.septum("history").out


def test_who_was_talking_and_is_denied_takes_it_back_at_once(mesh: Mesh) -> None:
    for _ in range(8):
        assert mesh.status("front", OPEN_URL) == 200
    mesh.write_policy(WITHOUT_OPEN)
    assert mesh.septum("apply", "--confirm", "100s").code == 0
    began = time.monotonic()
    until(lambda: mesh.status("front", OPEN_URL) == 200, within=20, what="the old rules", says=mesh.logs)
    print(f"rolled back {time.monotonic() - began:.2f} s after the first denial")
    rolled_back = until(lambda: status(mesh)["rolled_back"], what="the reason", says=mesh.logs)
    assert rolled_back["why"].startswith("front is denied at orders: ")


def test_a_workload_that_falls_ill_takes_it_back(mesh: Mesh, service: Service) -> None:
    until(lambda: health(mesh) == {"orders": True}, within=20, what="its health in a report", says=mesh.logs)
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "100s").code == 0
    service.ill.set()
    rolled_back = until(lambda: status(mesh)["rolled_back"], within=40, what="the way back", says=mesh.logs)
    assert rolled_back["why"] == "the health check of orders fails"
    service.ill.clear()
    until(lambda: enforced(mesh) == "old", within=20, what="the old rules", says=mesh.logs)


def test_a_health_path_that_does_not_answer_takes_it_back(mesh: Mesh) -> None:
    until(lambda: health(mesh) == {"orders": True}, within=20, what="its health in a report", says=mesh.logs)
    mesh.workloads["orders"]["health"] = "/broken"
    mesh.write_mesh()
    assert mesh.septum("apply", "--confirm", "100s").code == 0
    rolled_back = until(lambda: status(mesh)["rolled_back"], within=40, what="the way back", says=mesh.logs)
    assert rolled_back["why"] == "the health check of orders fails"
    until(lambda: enforced(mesh) == "old", within=20, what="a workload that is well again", says=mesh.logs)


def test_a_change_that_harms_nobody_takes_nothing_back(mesh: Mesh) -> None:
    """Also one for which Envoy makes the connections to a workload anew, and so checks its health anew."""
    until(lambda: health(mesh) == {"orders": True}, within=20, what="its health in a report", says=mesh.logs)
    mesh.workloads["orders"]["timeouts"] = {"connect": "3s"}
    mesh.write_mesh()
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "100s").code == 0
    reports = {status(mesh)["nodes"][0]["last_seen"]}

    def reported() -> bool:
        until(lambda: mesh.status("front", NEW_URL) == 200, what="a call that passes", says=mesh.logs)
        reports.add(status(mesh)["nodes"][0]["last_seen"])
        return len(reports) > 4

    until(reported, within=30, what="reports after the change", says=mesh.logs)
    assert history(mesh)[0] == (2, Ended.PROVISIONAL)


def test_a_scrape_is_not_locked_out_by_accident(mesh: Mesh) -> None:
    assert mesh.status("front", METRICS_URL) == 200
    until(lambda: status(mesh)["records"].get("ingested"), what="the record", says=mesh.logs)
    mesh.write_policy(OLD.replace(", GET /metrics", ""))
    refused = mesh.septum("apply")
    assert refused.code == 1
    assert "front -> orders  GET /metrics" in refused.out
    assert mesh.status("front", METRICS_URL) == 200
    assert mesh.septum("apply", "--allow-lockout").code == 0
    assert mesh.status("front", METRICS_URL) == 403


def on_terminal(mesh: Mesh, answer: str, *arguments: str) -> tuple[int, str]:
    """A command as somebody runs it who sits at a terminal and answers its question."""
    ours, theirs = pty.openpty()
    command = [*SEPTUM, "-C", str(mesh.directory), *arguments]
    environment = {**mesh.environment, "NO_COLOR": "1"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        with suppress(OSError):  # EIO: the other end is closed
            while chunk := terminal.read(4096):
                said += chunk
                if b"[y/N]" in said and answer:
                    terminal.write(f"{answer}\n".encode())
                    answer = ""
        return process.wait(30), said.decode()


def test_at_a_terminal_it_says_what_would_change_and_asks(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    code, said = on_terminal(mesh, "n", "apply")
    assert (code, enforced(mesh)) == (1, "old")
    assert "rules: 1 changed" in said
    assert "+ front → orders  GET /new" in said
    assert "risk  widens" in said
    code, said = on_terminal(mesh, "", "apply", "--yes")
    assert (code, "[y/N]" in said, enforced(mesh)) == (0, False, "new")
    mesh.write_policy(OLD)
    code, said = on_terminal(mesh, "y", "apply")
    assert (code, enforced(mesh)) == (0, "old")
    assert "- front → orders  GET /new" in said
    mesh.write_policy("allow: nonsense")
    code, said = on_terminal(mesh, "", "apply")
    assert (code, "SEP204" in said) == (1, True)


def test_a_plan_is_applied_as_it_is_and_only_to_what_it_was_made_against(mesh: Mesh, tmp_path: Path) -> None:
    before = read_mesh_dir(mesh.directory)
    after = before | {"policy/test.yaml": NEW.encode()}
    sides = [(load(files).policy, files) for files in (before, after)]
    (old, _), (new, _) = sides
    assert old is not None
    assert new is not None
    now = time.time()
    plan = plan_of(Planned("enforced", old, before), Planned(".", new, after), diff(old, new, now), now, message="more")
    (tmp_path / "plan.json").write_text(to_json(plan))
    mesh.write_policy("allow: []\n")  # what the directory holds by now plays no part
    assert mesh.septum("apply", str(tmp_path / "plan.json")).code == 0
    assert enforced(mesh) == "new"
    with Versions.open(mesh.state) as versions:
        stored = versions.find("enforced")
    assert stored is not None
    assert (stored.message, stored.digest) == ("more", plan.wanted.version)
    mesh.apply(WITHOUT_OPEN)
    late = mesh.septum("apply", str(tmp_path / "plan.json"))
    assert (late.code, "is enforced by now" in late.out, enforced(mesh)) == (1, True, "without open")


def test_of_two_that_start_from_the_same_version_one_wins(mesh: Mesh) -> None:
    base, files = status(mesh)["version"], (mesh.directory / "septum.yaml").read_text()
    answers: list[dict[str, Any]] = []

    def apply(policy: str) -> None:
        texts = {"septum.yaml": files, "policy/test.yaml": policy}
        answers.append(api.call(mesh.state, "apply", files=texts, author="test", base=base))

    threads = [threading.Thread(target=apply, args=(policy,)) for policy in (NEW, WITHOUT_OPEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["outcome"] for one in answers) == ["held", "moved"]
    (held,) = (one for one in answers if one["outcome"] == "held")
    (moved,) = (one for one in answers if one["outcome"] == "moved")
    assert moved["previous"] == held["version"] == status(mesh)["version"]
    assert enforced(mesh) in ("new", "without open")


def test_a_state_that_was_tampered_with_is_not_enforced_and_the_node_goes_on(mesh: Mesh) -> None:
    mesh.apply(NEW)
    assert mesh.stop() == 0
    with closing(sqlite3.connect(mesh.state / "state.db")) as state, state:
        state.execute("UPDATE version SET files = replace(files, 'GET /open', 'GET /**')")
    told = mesh.start().event("not enforced yet")
    assert "version 2" in told["why"]
    assert "is not what was stored" in told["why"]
    assert "is not what was stored" in (mesh.state / "septum.log").read_text()
    shown = mesh.septum("status")
    assert (shown.code, "the nodes keep what they hold: version 2" in shown.out) == (1, True)
    until(lambda: enforced(mesh) == "new", within=20, what="what the node holds", says=mesh.logs)
    assert mesh.status("front", "http://orders/anything") == 403
    shown = mesh.septum("history")
    assert (shown.code, shown.out.count("BAD")) == (1, 2)
    assert mesh.septum("show", "--verify").code == 1
    assert mesh.septum("rollback", "1").code == 1
    assert status(mesh)["version"] == ""
    mesh.write_policy(OLD)
    assert mesh.apply()["outcome"] == "held"
    assert enforced(mesh) == "old"
    assert mesh.septum("status").code == 0
    assert mesh.septum("show", "--verify").code == 0


# Killed


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing, so that whoever waits for it goes on waiting."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile, and is gone
            os.kill(pid, signal.SIGCONT)


def begun(mesh: Mesh, op: str, **arguments: Any) -> threading.Thread:
    """A command that is on its way; nobody may ever answer it."""

    def ask() -> None:
        with suppress(api.NotRunningError):
            api.call(mesh.state, op, author="test", patience=60, **arguments)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread


def files(mesh: Mesh, policy: str) -> dict[str, str]:
    return {"septum.yaml": (mesh.directory / "septum.yaml").read_text(), "policy/test.yaml": policy}


def killed(mesh: Mesh) -> None:
    """The control plane, at this very moment; it is there again when this returns."""
    control = mesh.pid("control")
    os.kill(control, signal.SIGKILL)
    until(lambda: mesh.pid("control") != control and status(mesh), within=20, what="another one", says=mesh.logs)


def sent(mesh: Mesh) -> bool:
    """Whether something was sent that the node does not hold yet."""
    return any(node["resources_sent"] and not node["held"] for node in status(mesh).get("nodes", ()))


def settled(mesh: Mesh, rules: str) -> None:
    """The node holds these rules, and never anything that is neither the old nor the new ones."""
    seen = set()

    def there() -> bool:
        seen.add(enforced(mesh))
        return rules in seen and enforced(mesh) == rules

    until(there, within=20, what=f"the {rules} rules", says=mesh.logs)
    assert not [answers for answers in seen if answers.startswith("mixed")]
    until(lambda: all(node["held"] for node in status(mesh)["nodes"]), within=20, what="all held", says=mesh.logs)


def test_killed_while_a_version_is_sent_the_one_before_is_enforced(mesh: Mesh) -> None:
    with stopped(mesh.pid("envoy")):
        waiting = begun(mesh, "apply", files=files(mesh, NEW), confirm=60)
        until(lambda: sent(mesh), what="a version that is on its way", says=mesh.logs)
        killed(mesh)
    settled(mesh, "old")
    waiting.join(10)
    assert history(mesh) == [(1, Ended.ENFORCED)]


def test_killed_once_a_version_is_stored_it_is_on_trial(mesh: Mesh) -> None:
    begun(mesh, "apply", files=files(mesh, NEW), confirm=3)
    until(lambda: len(history(mesh)) == 2, what="a version that is stored", says=mesh.logs)
    killed(mesh)
    assert history(mesh)[0][1] in (Ended.PROVISIONAL, Ended.ENFORCED)
    settled(mesh, "old")
    assert history(mesh) == [(3, Ended.ENFORCED), (2, Ended.ROLLED_BACK), (1, Ended.REPLACED)]


def test_killed_until_the_time_is_over_it_goes_back_at_once(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "1s").code == 0
    applied = time.monotonic()
    with stopped(mesh.pid("control")):
        until(lambda: time.monotonic() > applied + 1.5, what="the time is over")
        assert enforced(mesh) == "new", "nobody is there to take it back"
        os.kill(mesh.pid("control"), signal.SIGKILL)
    settled(mesh, "old")
    assert history(mesh)[:2] == [(3, Ended.ENFORCED), (2, Ended.ROLLED_BACK)]


def test_killed_while_it_goes_back_it_goes_back_after_all(mesh: Mesh) -> None:
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "1s").code == 0
    with stopped(mesh.pid("envoy")):
        until(lambda: sent(mesh), what="the way back", says=mesh.logs)
        killed(mesh)
    settled(mesh, "old")
    until(lambda: history(mesh)[:2] == [(3, Ended.ENFORCED), (2, Ended.ROLLED_BACK)], what="its end", says=mesh.logs)


def test_killed_while_a_rollback_is_sent_nothing_went_back(mesh: Mesh) -> None:
    mesh.apply(NEW)
    with stopped(mesh.pid("envoy")):
        waiting = begun(mesh, "rollback")
        until(lambda: sent(mesh), what="a version that is on its way", says=mesh.logs)
        killed(mesh)
    settled(mesh, "new")
    waiting.join(10)
    assert history(mesh) == [(2, Ended.ENFORCED), (1, Ended.REPLACED)]


@pytest.mark.parametrize("attempt", range(3))
def test_killed_around_a_confirmation_it_is_confirmed_or_goes_back(mesh: Mesh, attempt: int) -> None:
    mesh.write_policy(NEW)
    assert mesh.septum("apply", "--confirm", "8s").code == 0
    begun(mesh, "confirm")
    killed(mesh)
    with Versions.open(mesh.state) as versions:
        stored = versions.find("2")
    assert stored is not None
    settled(mesh, "new" if stored.end else "old")
    assert Path(mesh.state / "signing" / "key").exists()
