"""What is live ends when it is revoked, within five seconds, and what is not revoked goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import BinaryIO

import pytest
from live import KINDS, Live, ended, lasting_backends, lasts
from nodes import Nodes, port, running_nodes, workload
from proxy import free_port
from waiting import until

from septum.model.mesh import Address, Mesh
from septum.model.operation import HttpPattern
from septum.model.policy import Policy, Rule

pytestmark = pytest.mark.xdist_group("revocation")

# Seconds: the promise, and the drain time of the Envoys here (3 where they are started for real).
BOUND, DRAIN = 5.0, 1
CALLERS = ("web", "other")
# On the callers' own node, and on another one.
PLACES = ("near", "far")


@dataclass(frozen=True)
class Lab:
    nodes: Nodes
    mesh: Mesh
    cuts: dict[tuple[str, str], str] = field(default_factory=dict)
    tokens: Iterator[int] = field(default_factory=count)

    def call(self, caller: str, place: str, kind: str) -> Live:
        backend, made = KINDS[kind]
        target = f"{place}-{backend}"
        dial = self.mesh.workloads[caller].dials.get(target, Address("127.0.0.1", 1)).port
        authority = f"{target}:{self.mesh.workloads[target].at.port}" if backend == "tcp" else target
        return made(port(self.mesh, caller), dial, authority)

    def policy(self, *without: tuple[str, str]) -> Policy:
        """Everyone may call everything, but for these pairs."""
        rules = [
            Rule(f"{caller}-{target}", (caller,), (target,), _operations(target))
            for caller in CALLERS
            for target in self.mesh.workloads
            if (caller, target) not in without
        ]
        return Policy(self.mesh, tuple(rules), str(without))

    def hold(self, policy: Policy | None = None, cut: Iterable[tuple[str, str]] = ()) -> None:
        """Enforce a policy, or that of everything, and cut what is live of these pairs. Cuts stay, as for real."""
        self.cuts.update(dict.fromkeys(cut, str(next(self.tokens))))
        self.nodes.hold(policy or self.policy(), dict(self.cuts))

    def revoke(self, *pairs: tuple[str, str]) -> None:
        self.hold(self.policy(*pairs), pairs)


def _operations(target: str) -> tuple[HttpPattern, ...] | None:
    return None if target.endswith("tcp") else (HttpPattern.parse("* /**"),)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lasting_backends() as at, running_nodes("alpha", "beta", drain=DRAIN) as nodes:
        targets = [
            workload(f"{place}-{kind}", node, address, protocol, websocket=kind == "socket")
            for place, node in zip(PLACES, nodes.inbound, strict=True)
            for kind, address in at.items()
            for protocol in (kind if kind in ("grpc", "tcp") else "http",)
        ]
        callers = [
            replace(
                workload(name, "alpha", at["http"]),
                dials={f"{place}-tcp": Address("127.0.0.1", free_port()) for place in PLACES},
            )
            for name in CALLERS
        ]
        yield Lab(nodes, nodes.mesh(*callers, *targets))


@contextmanager
def held_open(*calls: Callable[[], Live]) -> Iterator[list[Live]]:
    with ExitStack() as stack:
        opened = []
        for make in calls:
            call = make()
            stack.callback(call.close)
            opened.append(call)
        yield opened


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_live_call_ends_and_those_of_others_go_on(lab: Lab, place: str, kind: str) -> None:
    lab.hold()
    target = f"{place}-{KINDS[kind][0]}"
    with held_open(lambda: lab.call("web", place, kind), lambda: lab.call("other", place, kind)) as (ours, theirs):
        assert ours.alive()
        lab.revoke(("web", target))
        # Envoy closes a connection that speaks HTTP/1.1 a second after the call on it ended (its delayed close).
        assert ended(ours, BOUND) < DRAIN + 1.5
        assert lasts(theirs)


@pytest.mark.parametrize("place", PLACES)
def test_calls_that_are_still_allowed_can_be_made_at_once_after_a_cut(lab: Lab, place: str) -> None:
    """A rule that becomes narrower cuts the pair, and what it still allows goes on with new connections."""
    lab.hold()
    with held_open(*(lambda kind=kind: lab.call("web", place, kind) for kind in KINDS)) as calls:  # type: ignore[misc]
        lab.hold(cut=[("web", f"{place}-{kind}") for kind in ("http", "socket", "grpc", "tcp")])
        for kind in KINDS:
            with held_open(lambda kind=kind: lab.call("web", place, kind)) as (fresh,):  # type: ignore[misc]
                assert fresh.alive()
        for call in calls:
            ended(call, BOUND)


@pytest.mark.parametrize("place", PLACES)
def test_short_requests_are_not_disturbed_by_a_cut(lab: Lab, place: str) -> None:
    lab.hold()
    with (
        asking(port(lab.mesh, "web"), f"{place}-http") as asked,
        held_open(lambda: lab.call("web", place, "grpc")) as (call,),
    ):
        until(lambda: asked.answers > 50, what="requests flow")
        lab.revoke(("web", f"{place}-grpc"))
        lab.hold(cut=[("web", f"{place}-http"), ("web", f"{place}-grpc")])
        ended(call, BOUND)
        so_far = asked.answers
        until(lambda: asked.answers > so_far + 200, what="requests still flow")
    assert not asked.failures


def test_what_a_cut_within_a_node_takes_with_it(lab: Lab) -> None:
    """All that the caller has open through its outbound listener, and nothing of any other caller."""
    lab.hold()
    own = [("near", "stream"), ("far", "websocket"), ("far", "dial"), ("near", "grpc")]
    calls = [lambda who=who, at=at: lab.call(who, *at) for who in CALLERS for at in own]  # type: ignore[misc]
    with held_open(*calls) as opened:
        lab.revoke(("web", "near-tcp"))
        for call in opened[: len(own)]:
            ended(call, BOUND)
        assert [lasts(call) for call in opened[len(own) :]] == [True] * len(own)


def test_what_a_cut_between_nodes_takes_with_it(lab: Lab) -> None:
    """The calls of the pair, and nothing else of the same caller."""
    lab.hold()
    others = [("near", "stream"), ("far", "stream"), ("far", "grpc"), ("near", "dial"), ("far", "websocket")]
    calls = [lambda at=at: lab.call("web", *at) for at in others]  # type: ignore[misc]
    with held_open(lambda: lab.call("web", "far", "dial"), *calls) as (revoked, *kept):
        lab.revoke(("web", "far-tcp"))
        ended(revoked, BOUND)
        assert [lasts(call) for call in kept] == [True] * len(kept)


@pytest.mark.parametrize("place", PLACES)
def test_nothing_that_begins_while_it_is_revoked_outlives_it(lab: Lab, place: str) -> None:
    """The rule and the cut come in one step: what is on its way then is either denied or cut."""
    pair, done, calls = ("web", f"{place}-tcp"), threading.Event(), []
    lab.hold()

    def open_again_and_again() -> None:
        while not done.is_set():
            with suppress(AssertionError, OSError):
                calls.append(lab.call("web", place, "connect"))

    threads = [threading.Thread(target=open_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(calls) > 20, what="sessions are opened")
        lab.revoke(pair)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    for call in calls:
        ended(call, BOUND)
        call.close()


def test_no_cut_leaves_the_snapshot_as_it_is(lab: Lab) -> None:
    proxy = lab.nodes.proxies["beta"]
    assert proxy.compiled(lab.policy()) == proxy.compiled(lab.policy(), {("web", "far-tcp"): ""})


class Asking:
    """Requests one after another on kept-alive connections, each answered 200 and whole, or a failure."""

    def __init__(self) -> None:
        self.answers = 0
        self.failures: list[str] = []

    def run(self, address: int, target: str, done: threading.Event) -> None:
        request = f"GET /short HTTP/1.1\r\nhost: {target}\r\n\r\n".encode()
        while not done.is_set():
            with socket.create_connection(("127.0.0.1", address), 10) as wire, wire.makefile("rb") as answers:
                while not done.is_set() and self._one(wire, answers, request):
                    pass

    def _one(self, wire: socket.socket, answers: BinaryIO, request: bytes) -> bool:
        """Whether the connection can be asked again."""
        try:
            wire.sendall(request)
            status = answers.readline()
            headers = dict(line.lower().split(b": ", 1) for line in iter(answers.readline, b"\r\n"))
            length = int(headers[b"content-length"])
            whole = b" 200 " in status and len(answers.read(length)) == length
        except (ConnectionError, ValueError, KeyError) as error:
            self.failures.append(repr(error))
            return False
        if whole:
            self.answers += 1
        else:
            self.failures.append(status.decode())
        return headers.get(b"connection", b"").strip() != b"close"


@contextmanager
def asking(address: int, target: str) -> Iterator[Asking]:
    asked, done = Asking(), threading.Event()
    threads = [threading.Thread(target=asked.run, args=(address, target, done)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        done.set()
        for thread in threads:
            thread.join()
