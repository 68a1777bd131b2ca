"""Transcripts of a relay: what the control plane sends, what Envoy says, and what the agent wants done."""

from __future__ import annotations

import json

import pytest

from septum.model.snapshot import MANIFEST, Resource, Snapshot, whole
from septum.node.exchange import Exchange, Outward
from septum.node.manifest import ManifestError, read
from septum.node.received import Received
from septum.node.relay import Relay, Restored
from septum.xds.order import TYPES
from septum.xds.protocol import Ack, Defer, Nack, Send, Subscribe
from septum.xds.types import CLUSTER, LISTENER, ROUTE, SCOPE, SECRET

NODE = "alpha"
KINDS = {"clusters": CLUSTER, "listeners": LISTENER, "routes": ROUTE, "scopes": SCOPE, "secrets": SECRET}


def res(text: str) -> Resource:
    name, version = text.split("@")
    return Resource(name, version, text.encode())


def manifest(node: str = NODE, **resources: str) -> Resource:
    """The manifest of a snapshot with these resources."""
    digest = whole({KINDS[kind]: map(res, texts.split()) for kind, texts in resources.items()})
    content = {"node": node, "workloads": ["orders"], "whole": digest, "later": 1}
    return Resource("manifest", digest, json.dumps(content).encode())


class Wire:
    """Envoy's end of its stream: an outlet that keeps what comes."""

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.unanswered: list[Send] = []

    def send(self, response: Send) -> None:
        self.sends.append(response)
        self.unanswered.append(response)

    def end(self) -> None:
        pass


class Agent:
    """An agent between two hands: `control` and `envoy` act, and what comes of it is taken from `said` and `sent`."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.kept: list[Snapshot] = []
        self.manifests: list[object] = []
        outward = Outward(self.messages.append, self.kept.append, self.manifests.append)
        self.exchange = Exchange(NODE, lambda: 0.0, outward)
        self.wire = Wire()
        self._nonce = 0

    def said(self) -> list[object]:
        """What was said to the control plane since the last call."""
        said = list(self.messages)
        self.messages.clear()
        return said

    def sent(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """What was sent to Envoy since the last call, as `name@version` texts."""
        sends = [
            (s.type_url, " ".join(f"{r.name}@{r.version}" for r in s.resources), s.removed) for s in self.wire.sends
        ]
        self.wire.sends.clear()
        return sends

    def control(self, kind: str, texts: str = "", removed: str = "") -> str:
        """The control plane sends a response; its nonce."""
        resources = (manifest(),) if kind == "manifest" else tuple(map(res, texts.split()))
        return self.arrive(KINDS[kind], resources, tuple(removed.split()))

    def complete(self, **resources: str) -> str:
        """The control plane sends the manifest of a snapshot with these resources."""
        return self.arrive(MANIFEST, (manifest(**resources),))

    def arrive(self, type_url: str, resources: tuple[Resource, ...] = (), removed: tuple[str, ...] = ()) -> str:
        self._nonce += 1
        self.exchange.arrive(Send(type_url, resources, removed, f"c{self._nonce}"))
        return f"c{self._nonce}"

    def envoy(self, *events: Subscribe | Ack | Nack) -> None:
        for event in events:
            self.exchange.fleet.receive(self.stream, event)

    def answer(self, type_url: str, reason: str = "") -> None:
        """Envoy answers all that it was sent of a type, and refuses the last of it if there is a reason."""
        due = [send for send in self.wire.unanswered if send.type_url == type_url]
        for send in due:
            self.answer_one(send, reason if send is due[-1] else "")

    def answer_one(self, send: Send, reason: str = "") -> None:
        self.wire.unanswered.remove(send)
        self.envoy(Nack(send.type_url, send.nonce, reason) if reason else Ack(send.type_url, send.nonce))

    def envoy_comes(self, **initial: str) -> None:
        self.wire = Wire()
        self.stream = self.exchange.fleet.open(NODE, self.wire)
        for kind in ("clusters", "listeners", "scopes"):
            versions = dict(text.split("@") for text in initial.get(kind, "").split())
            self.envoy(Subscribe(KINDS[kind], initial_versions=versions))

    def envoy_goes(self) -> None:
        self.exchange.fleet.close(self.stream)


def agent_with_envoy() -> Agent:
    """An agent that asked the control plane for everything, and an Envoy that waits."""
    agent = Agent()
    agent.exchange.open()
    agent.envoy_comes()
    agent.said()
    return agent


def holding(**resources: str) -> Agent:
    """An agent whose Envoy holds a snapshot of clusters and listeners, and whose control plane knows it."""
    agent = agent_with_envoy()
    for kind, texts in resources.items():
        agent.control(kind, texts)
    agent.complete(**resources)
    for kind in resources:
        agent.answer(KINDS[kind])
    for empty in {"clusters", "listeners", "scopes"} - resources.keys():
        agent.answer(KINDS[empty])
    assert agent.said()[-1] == Ack(MANIFEST, f"c{len(resources) + 1}")
    agent.sent()
    return agent


def test_the_first_words_ask_for_everything_in_the_order_in_which_it_is_sent():
    agent = Agent()
    agent.exchange.open()
    assert agent.said() == [Subscribe(type_url, ("*",)) for type_url in TYPES]
    assert TYPES[-1] == MANIFEST


def test_a_response_is_answered_when_envoy_has_answered_and_the_manifest_last():
    agent = agent_with_envoy()
    clusters, listeners = agent.control("clusters", "a@1 b@1"), agent.control("listeners", "in@1")
    complete = agent.complete(clusters="a@1 b@1", listeners="in@1")
    assert agent.said() == []
    agent.answer(LISTENER)
    assert agent.said() == [Ack(LISTENER, listeners)]
    assert agent.kept == []
    agent.answer(CLUSTER)
    agent.answer(SCOPE)
    assert agent.said() == [Ack(CLUSTER, clusters), Ack(MANIFEST, complete)]
    (kept,) = agent.kept
    assert kept.of(CLUSTER) == {"a": res("a@1"), "b": res("b@1")}
    assert kept.of(MANIFEST)["manifest"] == manifest(clusters="a@1 b@1", listeners="in@1")


def test_an_answer_without_resources_is_answered_at_once():
    agent = Agent()
    agent.exchange.open()
    agent.said()
    assert agent.arrive(CLUSTER) == "c1"
    assert agent.said() == [Ack(CLUSTER, "c1")]


def test_nothing_is_answered_while_envoy_is_away():
    agent = Agent()
    agent.exchange.open()
    agent.said()
    nonce = agent.control("clusters", "a@1")
    complete = agent.complete(clusters="a@1")
    assert agent.said() == []
    agent.envoy_comes()
    assert agent.said() == []
    for type_url in (CLUSTER, LISTENER, SCOPE):
        agent.answer(type_url)
    assert agent.said() == [Ack(CLUSTER, nonce), Ack(MANIFEST, complete)]


def test_a_refusal_has_envoys_words_and_the_others_of_a_batch_are_not_blamed():
    agent = agent_with_envoy()
    batch = agent.control("clusters", "a@1 b@1")
    agent.answer(CLUSTER, "one of them is bad")
    assert agent.said() == [], "the agent's own session finds out which one"
    agent.answer(CLUSTER, "b is bad")
    assert agent.said() == [Nack(CLUSTER, batch, "Cluster b: b is bad")]
    first, second = agent.control("clusters", "a@1"), agent.control("clusters", "b@1")
    assert agent.said() == [Ack(CLUSTER, first), Nack(CLUSTER, second, "b is bad")]


def test_a_refused_resource_that_is_sent_again_is_tried_again():
    agent = holding(clusters="a@1")
    bad = agent.control("clusters", "a@2")
    agent.answer(CLUSTER, "bad")
    assert agent.said() == [Nack(CLUSTER, bad, "bad")]
    agent.sent()
    again = agent.control("clusters", "a@2")
    assert agent.sent() == [(CLUSTER, "a@2", ())]
    assert agent.said() == []
    agent.answer(CLUSTER)
    assert agent.said() == [Ack(CLUSTER, again)]


def test_what_was_superseded_waits_for_what_superseded_it_and_both_are_answered_in_turn():
    agent = holding(clusters="a@1")
    first, second = agent.control("clusters", "a@2"), agent.control("clusters", "a@3")
    older, newer = agent.wire.unanswered
    agent.answer_one(older)
    agent.answer_one(newer, "bad")
    assert agent.said() == [Ack(CLUSTER, first), Nack(CLUSTER, second, "bad")]


def test_a_resource_that_is_sent_again_as_it_is_costs_envoy_nothing():
    agent = holding(clusters="a@1")
    again = agent.control("clusters", "a@1")
    assert agent.sent() == []
    assert agent.said() == [Ack(CLUSTER, again)]


def test_a_route_waits_for_the_scope_that_makes_envoy_ask_for_it():
    agent = holding(clusters="a@1", listeners="in@1")
    route, scope = agent.control("routes", "ra@1"), agent.control("scopes", "a@1")
    agent.complete(clusters="a@1", listeners="in@1", routes="ra@1", scopes="a@1")
    agent.answer(SCOPE)
    assert agent.said() == [Ack(SCOPE, scope)]
    agent.envoy(Subscribe(ROUTE, ("ra",)))
    agent.answer(ROUTE)
    assert agent.said() == [Ack(ROUTE, route), Ack(MANIFEST, "c6")]


def test_a_route_whose_scope_is_refused_is_deferred_so_that_the_refusal_is_not_waited_for():
    agent = holding(clusters="a@1", listeners="in@1")
    route, scope = agent.control("routes", "ra@1"), agent.control("scopes", "a@1")
    complete = agent.complete(clusters="a@1", listeners="in@1", routes="ra@1", scopes="a@1")
    agent.answer(SCOPE, "no such thing")
    assert agent.said() == [Nack(SCOPE, scope, "no such thing"), Defer(ROUTE, route), Ack(MANIFEST, complete)]
    assert len(agent.kept) == 1, "what is refused in part is not the last good one"


def test_what_was_deferred_and_is_held_after_all_is_asked_for_by_name():
    agent = holding(clusters="a@1", listeners="in@1")
    agent.control("routes", "ra@1")
    agent.control("scopes", "a@1")
    agent.complete(clusters="a@1", listeners="in@1", routes="ra@1", scopes="a@1")
    agent.answer(SCOPE, "no such thing")
    agent.said()
    agent.control("scopes", "a@2")
    agent.answer(SCOPE)
    agent.envoy(Subscribe(ROUTE, ("ra",)))
    agent.said()
    agent.answer(ROUTE)
    assert agent.said() == [Subscribe(ROUTE, ("ra",))]
    assert agent.said() == []
    again = agent.control("routes", "ra@1")
    assert agent.said() == [Ack(ROUTE, again)]


def test_a_removal_is_answered_when_envoy_has_carried_it_out():
    agent = holding(clusters="a@1 b@1")
    nonce = agent.control("clusters", removed="b")
    assert agent.sent() == [(CLUSTER, "", ("b",))]
    assert agent.said() == []
    agent.answer(CLUSTER)
    assert agent.said() == [Ack(CLUSTER, nonce)]


def test_the_removal_of_what_envoy_never_had_is_answered_once_envoy_has_said_what_it_has():
    agent = Agent()
    agent.exchange.open()
    agent.said()
    nonce = agent.control("clusters", removed="old")
    agent.complete()
    agent.envoy_comes(clusters="old@1")
    assert agent.said() == []
    for type_url in (LISTENER, SCOPE):
        agent.answer(type_url)
    agent.answer(CLUSTER)
    assert agent.said()[0] == Ack(CLUSTER, nonce)


def test_when_envoy_goes_everything_is_asked_for_again_and_answered_when_it_is_back():
    agent = holding(clusters="a@1", listeners="in@1")
    agent.envoy_goes()
    assert agent.said() == [
        Subscribe(CLUSTER, ("a",)),
        Subscribe(LISTENER, ("in",)),
        Subscribe(MANIFEST, ("manifest",)),
    ]
    nonces = agent.control("clusters", "a@1"), agent.control("listeners", "in@1")
    complete = agent.complete(clusters="a@1", listeners="in@1")
    assert agent.said() == []
    agent.envoy_comes()
    for type_url in (CLUSTER, LISTENER, SCOPE):
        agent.answer(type_url)
    assert agent.said() == [Ack(CLUSTER, nonces[0]), Ack(LISTENER, nonces[1]), Ack(MANIFEST, complete)]


def test_an_envoy_that_is_leaving_still_gets_what_changes_and_its_answers_count_for_nothing():
    agent = holding(clusters="a@1", listeners="in@1")
    old_wire, old_stream = agent.wire, agent.stream
    agent.envoy_comes()
    assert agent.said()[0] == Subscribe(CLUSTER, ("a",)), "the new one holds nothing yet"
    agent.control("clusters", "a@1")
    agent.control("listeners", "in@1")
    agent.complete(clusters="a@1", listeners="in@1")
    old_wire.sends.clear()
    nonce = agent.control("clusters", "a@2")
    (sent,) = old_wire.sends
    assert sent.resources == (res("a@2"),)
    agent.exchange.fleet.receive(old_stream, Ack(CLUSTER, sent.nonce))
    assert agent.said() == []
    for type_url in (CLUSTER, LISTENER, SCOPE):
        agent.answer(type_url)
    assert Ack(CLUSTER, nonce) in agent.said()
    agent.exchange.fleet.close(old_stream)
    assert agent.said() == []
    assert [status.node for status in agent.exchange.fleet.status()] == [NODE]


def test_an_envoy_that_was_leaving_serves_again_when_its_successor_dies():
    agent = holding(clusters="a@1")
    old_stream = agent.stream
    agent.envoy_comes()
    agent.said()
    nonce = agent.control("clusters", "a@1")
    complete = agent.complete(clusters="a@1")
    agent.envoy_goes()
    assert agent.said() == [Ack(CLUSTER, nonce), Ack(MANIFEST, complete)]
    assert old_stream.node == NODE


def test_a_new_stream_begins_with_what_envoy_holds_as_it_was_received():
    agent = holding(clusters="a@1 b@1")
    agent.control("clusters", "b@2")
    agent.answer(CLUSTER, "bad")
    agent.exchange.close()
    agent.said()
    agent.exchange.open()
    first = agent.said()[0]
    assert first == Subscribe(CLUSTER, ("*",), (), {"a": "1"}), "of b Envoy holds what is not wanted as it is"


def test_what_a_new_stream_does_not_bring_is_gone_when_the_manifest_comes():
    agent = holding(clusters="a@1")
    agent.control("clusters", "b@1")  # not answered when the stream breaks
    agent.answer(CLUSTER)
    agent.control("clusters", "c@1")
    agent.exchange.close()
    agent.exchange.open()
    agent.sent()
    agent.complete(clusters="a@1 b@1")
    assert agent.sent() == []  # c is still on its way to Envoy
    agent.answer(CLUSTER)
    assert agent.sent() == [(CLUSTER, "", ("c",))]


def test_own_secrets_go_before_those_of_the_control_plane_and_are_never_kept():
    agent = holding(clusters="a@1", listeners="in@1")
    agent.exchange.set_locals({"own": res("own@k1"), "bundle": res("bundle@k1")})
    agent.control("secrets", "bundle@1")
    agent.envoy(Subscribe(SECRET, ("own", "bundle")))
    assert agent.sent() == [(SECRET, "own@k1 bundle@k1", ())]
    agent.answer(SECRET)
    agent.complete(clusters="a@1", listeners="in@1", secrets="bundle@1")
    assert agent.kept[-1].of(SECRET) == {"bundle": res("bundle@1")}
    agent.sent()
    agent.exchange.set_locals({"own": res("own@k2"), "bundle": res("bundle@k1")})
    assert agent.sent() == [(SECRET, "own@k2", ())]
    agent.exchange.set_locals({"own": res("own@k2")})
    assert agent.sent() == [(SECRET, "bundle@1", ())]


def test_a_secret_that_nothing_uses_is_taken_with_its_snapshot():
    agent = holding(clusters="a@1", listeners="in@1")
    secret = agent.control("secrets", "bundle@1")
    assert agent.said() == [], "a listener that uses it may follow"
    complete = agent.complete(clusters="a@1", listeners="in@1", secrets="bundle@1")
    assert agent.said() == [Ack(SECRET, secret), Ack(MANIFEST, complete)]


def test_the_manifest_is_told_of_when_it_comes_and_once():
    agent = holding(clusters="a@1")
    (found,) = agent.manifests
    assert (found.node, found.workloads, found.content["later"]) == (NODE, ("orders",), 1)
    agent.complete(clusters="a@1")
    assert len(agent.manifests) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "no manifest that this version of Septum reads"),
        (b"[]", "no manifest that this version of Septum reads"),
        (b'{"node": "alpha", "workloads": []}', "'whole'"),
        (b'{"node": "alpha", "workloads": [1], "whole": "0"}', "are text"),
        (b'{"node": "beta", "workloads": [], "whole": "0"}', "the node 'beta', and this node is 'alpha'"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_the_reason(body, why):
    with pytest.raises(ManifestError, match=why):
        read(body, NODE)
    agent = agent_with_envoy()
    nonce = agent.arrive(MANIFEST, (Resource("manifest", "1", body),))
    (answer,) = agent.said()
    assert (answer.nonce, why in answer.reason) == (nonce, True)
    assert agent.kept == []


def test_a_kept_snapshot_is_published_before_anything_else_and_told_of():
    agent = Agent()
    snapshot = Snapshot("s", {CLUSTER: {"a": res("a@1")}, MANIFEST: {"manifest": manifest(clusters="a@1")}})
    agent.exchange.restore(snapshot)
    agent.envoy_comes()
    assert agent.sent() == [(CLUSTER, "a@1", ()), (LISTENER, "", ()), (SCOPE, "", ())]
    assert len(agent.manifests) == 1
    assert agent.exchange.relay.whole
    assert agent.exchange.relay.good


def test_a_kept_snapshot_of_another_node_is_not_published():
    relay = Relay(NODE)
    snapshot = Snapshot("s", {CLUSTER: {"a": res("a@1")}, MANIFEST: {"manifest": manifest("beta", clusters="a@1")}})
    with pytest.raises(ManifestError):
        relay.receive(Restored(snapshot))
    assert relay.published == ""


def test_a_node_of_which_nothing_is_wanted_lets_its_envoy_start():
    agent = agent_with_envoy()
    agent.complete()
    assert agent.sent() == [(CLUSTER, "", ()), (LISTENER, "", ()), (SCOPE, "", ())]


def test_what_was_received_keeps_its_mappings_and_its_digest_as_it_changes():
    received = Received()
    received.take(CLUSTER, [res("a@1"), res("b@1")], ())
    received.take(ROUTE, [res("r@1")], ())
    before = received.published()
    assert received.take(CLUSTER, [res("a@2")], ["b"])
    after = received.published()
    assert before.of(CLUSTER) == {"a": res("a@1"), "b": res("b@1")}
    assert after.of(ROUTE) is before.of(ROUTE)
    assert received.whole == whole({CLUSTER: [res("a@2")], ROUTE: [res("r@1")]})
    assert not received.take(CLUSTER, [res("a@2")], ["b"])
    assert received.published().of(CLUSTER) is after.of(CLUSTER)
