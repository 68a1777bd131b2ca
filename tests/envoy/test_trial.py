"""Policy tests through a real Envoy: what `septum test --envoy` asks, and what it says when the two differ."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from waiting import until

import strategies
from command_line import septum
from septum.app.trial.proxy import TrialError, free_ports
from septum.app.trial.run import trial
from septum.app.trial.verdict import Fate, Tried, joined
from septum.model.case import Case
from septum.model.mesh import Address
from septum.model.policy import Policy
from septum.model.window import parse_time
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.verify.cases import run_all

NOW = parse_time("2026-11-24T12:00:00Z")
# Every kind of target there is, on two nodes of which one could not be reached from here.
MESH = """\
mesh: lab
trust_domain: lab.test
segments: {core: null, edge: null}
nodes: {alpha: {inbound: 127.0.0.1:7443}, beta: {inbound: 192.0.2.7:7443}}
workloads:
  web:     {segment: edge, at: 127.0.0.1:9101, protocol: http, node: alpha}
  desk:    {segment: edge, at: 192.0.2.7:9101, protocol: http, node: beta}
  api:
    segment: core
    at: 127.0.0.1:9102
    protocol: http
    node: alpha
    health: /healthz
    dials: {store: 127.0.0.1:9}
  folding: {segment: core, at: 127.0.0.1:9103, protocol: http, node: alpha, ignore_case: true}
  matrix:  {segment: core, at: 127.0.0.1:9104, protocol: http, node: alpha, path_parameters: true}
  socket:  {segment: core, at: 127.0.0.1:9105, protocol: http, node: alpha, websocket: true}
  rpc:     {segment: core, at: 127.0.0.1:9106, protocol: grpc, node: alpha, health: grpc}
  store:   {segment: core, at: 192.0.2.7:9107, protocol: tcp, node: beta}
issuers:
  login:    {issuer: https://login.lab.test, audiences: [lab, desk], jwks: https://login.lab.test/keys}
  partners: {issuer: the partners, audiences: [lab], jwks: files/keys.json}
external:
  partner: {host: api.partner.test, port: 443, protocol: http, originate_tls: true}
  bank:    {host: bank.test, port: 443, protocol: tls}
  mail:    {host: mail.test, port: 25, protocol: tcp, mode: observe}
enforce: [core]
"""
RULES = """\
allow:
  - {name: orders, from: web, to: api, http: ["GET /orders/{id}", "GET,HEAD /catalog/**"]}
  - {name: probe, from: desk, to: api, http: GET /healthz}
  - {name: folded, from: web, to: folding, http: GET /Orders}
  - {name: parameters, from: web, to: matrix, http: "GET /a/**"}
  - {name: events, from: web, to: socket, http: GET /ws}
  - {name: pay, from: api, to: rpc, grpc: p.S/Pay}
  - {name: keep, from: api, to: store}
  - {name: refund, from: desk, to: api, http: "POST /orders/{id}/refund",
     when: {claims: {iss: https://login.lab.test, groups: {contains: support}, level: 3}}}
  - {name: scoped, from: desk, to: rpc, grpc: p.S/Ask, when: {claims: {iss: the partners, scope: {scope: ask}}}}
  - {name: out, from: web, to: partner, http: GET /quotes}
  - {name: money, from: api, to: bank}
  - {name: summer, from: web, to: api, http: GET /summer,
     from_time: 2026-06-01T00:00:00Z, until: 2026-09-01T00:00:00Z}
  - {name: winter, from: web, to: api, http: GET /winter, from_time: 2026-09-01T00:00:00Z}
"""
TESTS = """\
- {from: web, to: api, http: [GET /orders/42, "GET /orders/42?x=/a", GET /a/../orders/1, HEAD /catalog],
   expect: allow, by: orders}
- {from: web, to: api, http: [DELETE /orders/42, GET /orders/42/, GET /healthz, "GET /orders/..%2f", TRACE /orders/1],
   expect: deny}
- {from: desk, to: api, http: GET /healthz, expect: allow, by: probe}
- {from: segment:edge, to: [web, desk], http: GET /, expect: deny, because: nobody calls the edge}
- {from: web, to: folding, http: [GET /orders, GET /ORDERS], expect: allow}
- {from: web, to: matrix, http: GET /a/b;c, expect: allow}
- {from: web, to: api, http: GET /orders/b;c, expect: deny}
- {from: web, to: socket, http: GET /ws, websocket: true, expect: allow, by: events}
- {from: web, to: api, http: GET /orders/1, websocket: true, expect: deny}
- {from: api, to: rpc, grpc: p.S/Pay, expect: allow, by: pay}
- {from: segment:edge, to: rpc, grpc: [p.S/Pay, p.S/Ask, p.SS/Pay], expect: deny}
- {from: api, to: store, expect: allow, by: keep}
- {from: segment:edge, to: store, connect: true, expect: deny}
- from: desk
  to: api
  http: POST /orders/7/refund
  claims: {iss: https://login.lab.test, groups: [sales, support], level: 3, sub: ann, nested: {a: [1, true]}}
  expect: allow
  by: refund
- {from: desk, to: api, http: POST /orders/7/refund, claims: {iss: https://login.lab.test, groups: support, level: 3},
   expect: deny}
- {from: desk, to: api, http: POST /orders/7/refund, claims: {iss: the partners, groups: [support], level: 3},
   expect: deny}
- {from: desk, to: api, http: POST /orders/7/refund, expect: deny,
   claims: {iss: https://login.lab.test, groups: [support], level: "3"}}
- {from: desk, to: api, http: POST /orders/7/refund, expect: deny}
- {from: desk, to: rpc, grpc: p.S/Ask, claims: {iss: the partners, aud: [lab, x], scope: tell ask},
   expect: allow, by: scoped}
- {from: web, to: partner, http: GET /quotes, expect: allow, by: out}
- {from: api, to: partner, http: GET /quotes, expect: deny}
- {from: api, to: bank, connect: true, expect: allow, by: money}
- {from: web, to: [bank, mail], connect: true, expect: deny}
- {from: web, to: api, http: GET /summer, at: 2026-07-01T00:00:00Z, expect: allow, by: summer}
- {from: web, to: api, http: GET /summer, at: 2026-09-01T00:00:00Z, expect: deny}
- {from: web, to: api, http: GET /summer, expect: deny}
- {from: web, to: api, http: GET /winter, expect: allow, by: winter}
- {from: web, to: api, http: GET /winter, at: 2026-08-31T23:59:59Z, expect: deny}
"""


def loaded(rules: str = RULES, tests: str = TESTS, mesh: str = MESH) -> tuple[Policy, tuple[Case, ...]]:
    files = {
        "septum.yaml": mesh,
        "policy/a.yaml": rules,
        "policy/a_test.yaml": tests,
        "files/keys.json": strategies.KEYS,
    }
    content = {path: text.encode() for path, text in files.items()}
    read = load(content)
    assert read.policy is not None, read.errors
    cases = read_cases(content, read.policy)
    assert cases.diagnostics == ()
    return read.policy, cases.cases


def tried(policy: Policy, cases: tuple[Case, ...], proxied: Policy | None = None) -> tuple[Tried, ...]:
    """The cases by the model of one policy, and by a proxy that enforces it, or another one."""
    return asyncio.run(trial(proxied or policy, run_all(policy, cases, NOW), NOW))


def test_every_kind_of_case_is_decided_alike_by_the_model_and_by_envoy() -> None:
    policy, cases = loaded()
    results = run_all(policy, cases, NOW)
    assert [answer for result in results for answer in result.wrong] == []
    found = asyncio.run(trial(policy, results, NOW))
    assert [(one.answer.call, one.trouble, one.disagreement) for one in found if one.trouble or one.disagreement] == []
    assert len(found) == sum(len(case.calls) for case in cases) == 46
    passed = {(one.answer.call.caller, one.answer.call.target) for one in found if one.seen and one.seen.passed}
    assert ("web", "desk") in passed, "what is observed passes"
    assert ("web", "mail") in passed
    assert ("web", "bank") not in passed
    assert {one.fate for one in joined(results, found)} == {Fate.PASSED}


def test_a_proxy_that_decides_otherwise_is_a_mistake_of_septum_and_said_to_be_one() -> None:
    """The proxy is given other rules than the model, as if the compiler had a mistake."""
    policy, _ = loaded()
    tests = """\
- {from: web, to: api, http: GET /orders/42, expect: allow, by: orders}
- {from: web, to: api, http: PUT /orders/42, expect: deny, claims: {iss: the partners, n: 1}, at: 2027-01-01T00:00:00Z}
- {from: desk, to: api, http: GET /healthz, expect: allow}
- {from: web, to: socket, http: GET /ws, websocket: true, expect: allow}
- {from: api, to: store, expect: allow}
"""
    _, cases = loaded(tests=tests)
    other = RULES.replace("name: orders", "name: others").replace("name: probe, from: desk", "name: probe, from: web")
    other = other.replace("GET /ws", "GET /w") + "  - {name: wide, from: web, to: api, http: PUT /orders/42}\n"
    found = tried(policy, cases, loaded(other, "[]")[0])
    assert [one.disagreement for one in found] == [
        "both allow it: the model by orders, the proxy by others",
        "the model says deny, the proxy allow by wide",
        "the model says allow, the proxy deny",
        "the model says allow, the proxy deny",
        "",
    ]
    ran = joined(run_all(policy, cases, NOW), ())
    assert {one.fate for one in ran} == {Fate.PASSED}, "the model alone has nothing to say against them"
    results = [one.result for one in found]
    fates = [(one.fate, "\n".join(one.lines())) for one in joined(results, found)]
    assert [fate for fate, _ in fates] == [Fate.DISAGREED] * 4 + [Fate.PASSED]
    assert fates[1][1] == (
        "web -> api  PUT /orders/42: the model says deny, the proxy allow by wide\n"
        "  the proxy and the model disagree: a bug of Septum, not of your policy; please report it, with\n"
        '  the policy and this case: {from: web, to: api, http: "PUT /orders/42", '
        'claims: {"iss": "the partners", "n": 1}, at: 2027-01-01T00:00:00Z, expect: deny}'
    )
    assert "websocket: true, expect: allow}" in fates[3][1]


def test_a_target_that_the_proxy_opens_though_it_should_not_is_noticed_where_both_deny() -> None:
    """A verdict is one thing, and whether the request got through another."""
    policy, cases = loaded(tests="- {from: web, to: rpc, grpc: p.S/Pay, expect: deny}\n")
    observed = replace(policy, mesh=replace(policy.mesh, enforced=frozenset()))
    results = run_all(policy, cases, NOW)
    [one] = asyncio.run(trial(observed, results, NOW))
    assert one.seen is not None
    assert one.seen.passed
    assert one.disagreement == "", "for the policy that the proxy was given, it passes rightly"


def test_a_window_that_is_about_to_end_is_decided_by_the_rules_of_the_moment() -> None:
    """Envoy goes by its own clock, which says by now that the window is over."""
    rules = "allow:\n  - {name: soon, from: web, to: api, http: GET /, until: 2026-11-24T12:00:30Z}\n"
    policy, cases = loaded(rules, "- {from: web, to: api, http: GET /, expect: allow, by: soon}\n")
    [one] = tried(policy, cases)
    assert (one.trouble, one.disagreement) == ("", "")


def test_a_suite_of_many_cases_takes_seconds() -> None:
    tests = "".join(f"- {{from: web, to: api, http: GET /orders/{number}, expect: allow}}\n" for number in range(150))
    tests += "".join(f"- {{from: api, to: rpc, grpc: p.S/M{number}, expect: deny}}\n" for number in range(50))
    policy, cases = loaded(tests=tests)
    began = time.monotonic()
    found = tried(policy, cases)
    took = time.monotonic() - began
    print(f"200 cases through Envoy: {took:.2f} s")
    assert len(found) == 200
    assert not any(one.trouble or one.disagreement for one in found)
    assert took < 20


def test_an_envoy_that_ends_by_itself_is_said_to_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "envoy"
    broken.write_text('#!/bin/sh\necho \'{"message": "no memory"}\' > envoy.log\nexit 3\n')
    broken.chmod(0o755)
    monkeypatch.setenv("SEPTUM_ENVOY", str(broken))
    policy, cases = loaded()
    with pytest.raises(TrialError, match="Envoy ended with status 3: no memory"):
        tried(policy, cases)


def test_a_port_that_somebody_takes_in_between_is_picked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, cases = loaded(tests="- {from: web, to: api, http: GET /orders/1, expect: allow}\n")
    picked = []
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def pick(count: int) -> list[Address]:
            picked.append(count)
            found = free_ports(count)
            return [Address(*taken.getsockname()), *found[1:]] if len(picked) == 1 else found

        monkeypatch.setattr("septum.app.trial.run.free_ports", pick)
        [one] = tried(policy, cases)
    assert (one.trouble, one.disagreement, picked) == ("", "", [2, 2])


def test_a_long_temporary_directory_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a socket is limited (unix(7))."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 90)))
    policy, cases = loaded()
    assert len(tried(policy, cases[:1])) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_nothing_is_left_of_a_run_that_ends_early(number: signal.Signals, tmp_path: Path) -> None:
    """An Envoy that never comes up, so that the run is surely under way."""
    write(tmp_path)
    paused = tmp_path / "envoy"
    paused.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    paused.chmod(0o755)
    command = [sys.executable, "-m", "septum.cli", "-C", str(tmp_path), "test", "--envoy"]
    environment = {**os.environ, "SEPTUM_ENVOY": str(paused), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), what="Envoy"))
    assert psutil.pid_exists(pid)
    try:
        process.send_signal(number)
        process.communicate(timeout=20)
    finally:
        process.kill()
    until(lambda: not psutil.pid_exists(pid), what="the end of Envoy")
    assert process.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL)
    if number is signal.SIGINT:
        assert list(tmp_path.glob("septum-*")) == [], "its directory is gone"


def write(directory: Path, tests: str = TESTS) -> Path:
    (directory / "policy").mkdir()
    (directory / "files").mkdir()
    (directory / "septum.yaml").write_text(MESH)
    (directory / "policy" / "a.yaml").write_text(RULES)
    (directory / "policy" / "a_test.yaml").write_text(tests)
    (directory / "files" / "keys.json").write_text(strategies.KEYS)
    return directory


def test_the_verb_asks_envoy_and_says_that_times_are_not_sent(tmp_path: Path) -> None:
    at = "- {from: web, to: api, http: GET /summer, at: 2026-07-01T00:00:00Z, expect: deny}\n"
    write(tmp_path, TESTS + at)
    ran = septum("test", "--envoy", cwd=tmp_path)
    assert (ran.status, ran.err) == (1, "")
    assert "policy/a_test.yaml ............................F" in ran.out
    assert "No request can be sent at another time" in ran.out
    assert "the proxy decides as the model does: the test, or the policy, is not as it should be" in ran.out
    [value] = json.loads(septum("test", "--envoy", "--json", "policy/a_test.yaml:1", cwd=tmp_path).out)["tests"]
    assert value["requests"][0]["proxy"] == {
        "decision": "allow", "rule": "orders", "reached": True, "disagreement": None, "trouble": None,
    }  # fmt: skip


def test_without_an_envoy_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPTUM_ENVOY", str(tmp_path / "none"))
    ran = septum("test", "--envoy", cwd=write(tmp_path))
    assert ran.status == 2
    assert "no Envoy to run at" in ran.err
