"""A fleet without gRPC: streams are lists, and time is a number."""

import asyncio

import pytest

from septum.model.snapshot import Resource, Snapshot
from septum.xds.fleet import Fleet, Stream, UnknownNode
from septum.xds.protocol import Ack, Nack, Send, Subscribe
from septum.xds.status import (
    AllHeld,
    AskedForAbsent,
    Connected,
    Disconnected,
    Displaced,
    Missing,
    NodeRefused,
    NodeStatus,
    Refused,
    Settled,
    StaleAnswer,
    TurnedAway,
)
from septum.xds.types import CLUSTER, ROUTE, Refusal


class Wire:
    """An outlet that a test looks into."""

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.ended = False

    def send(self, response: Send) -> None:
        self.sends.append(response)

    def end(self) -> None:
        self.ended = True


class World:
    """A fleet, what it tells, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[object] = []
        self.fleet = Fleet(lambda: self.now, self.told.append)

    def connect(self, node: str) -> tuple[Stream, Wire]:
        wire = Wire()
        stream = self.fleet.open(node, wire)
        self.fleet.receive(stream, Subscribe(CLUSTER))
        return stream, wire

    def answer(self, stream: Stream, wire: Wire, reason: str = "") -> None:
        """Answer the last response."""
        last = wire.sends[-1]
        answer = Nack(last.type_url, last.nonce, reason) if reason else Ack(last.type_url, last.nonce)
        self.fleet.receive(stream, answer)


def clusters(version: str, *texts: str) -> Snapshot:
    found = [Resource(*text.split("@"), text.encode()) for text in texts]
    return Snapshot(version, {CLUSTER: {resource.name: resource for resource in found}})


def refusal(name: str, version: str, reason: str) -> Refusal:
    return Refusal(CLUSTER, name, version, reason)


def test_a_publication_is_on_its_way_when_publish_returns():
    world = World()
    world.fleet.expect("n")
    _, wire = world.connect("n")
    assert wire.sends == []
    world.fleet.publish("n", clusters("s1", "a@1"))
    assert [send.resources[0].name for send in wire.sends] == ["a"]


def test_status_follows_a_node_from_missing_over_sent_to_held():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1", "b@1"))
    assert world.fleet.status() == [NodeStatus("n", False, "s1", None, 2, 0, 0, (), 100.0)]
    world.now = 101.0
    stream, wire = world.connect("n")
    assert world.fleet.status() == [NodeStatus("n", True, "s1", None, 2, 2, 0, (), 101.0)]
    world.now = 102.0
    world.answer(stream, wire)
    assert world.fleet.status() == [NodeStatus("n", True, "s1", "s1", 2, 0, 2, (), 102.0)]
    world.fleet.publish("n", clusters("s2", "a@1", "b@2"))
    world.answer(stream, wire, "no")
    bad = refusal("b", "2", "no")
    assert world.fleet.status() == [NodeStatus("n", True, "s2", "s1", 2, 0, 1, (bad,), 102.0)]
    world.fleet.close(stream)
    assert world.fleet.status() == [NodeStatus("n", False, "s2", "s1", 2, 0, 1, (bad,), 102.0)]


def test_everything_that_happens_is_told():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1"))
    stream, wire = world.connect("n")
    world.answer(stream, wire)
    world.fleet.receive(stream, Ack(CLUSTER, "99"))
    world.fleet.receive(stream, Subscribe(ROUTE, ("nope",)))
    world.fleet.publish("n", clusters("s2", "a@2"))
    world.answer(stream, wire, "no")
    second = world.fleet.open("n", Wire())
    world.fleet.close(stream)
    world.fleet.close(second)
    with pytest.raises(UnknownNode):
        world.fleet.open("stranger", Wire())
    assert world.told == [
        Connected("n"),
        Settled("n", "s1"),
        StaleAnswer("n", CLUSTER, "99"),
        AskedForAbsent("n", ROUTE, ("nope",)),
        NodeRefused("n", refusal("a", "2", "no")),
        Displaced("n"),
        Connected("n"),
        Disconnected("n"),
        TurnedAway("stranger"),
    ]


def test_a_displaced_stream_is_ended_and_no_longer_heard():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1"))
    old, old_wire = world.connect("n")
    _, wire = world.connect("n")
    assert old_wire.ended
    world.answer(old, old_wire)
    assert world.fleet.status()[0].held == 0
    world.fleet.close(old)
    assert world.fleet.status()[0].connected
    assert len(wire.sends) == 1


def test_a_forgotten_node_is_turned_away():
    world = World()
    world.fleet.publish("n", clusters("s1"))
    stream, wire = world.connect("n")
    world.fleet.forget("n")
    world.fleet.forget("n")
    assert wire.ended
    world.answer(stream, wire)
    with pytest.raises(UnknownNode):
        world.fleet.open("n", Wire())


def settle(world: World, nodes: list[str], version: str, *, within: float = 5, meanwhile=lambda: None):
    async def wait():
        waiting = asyncio.create_task(world.fleet.settled(nodes, version, within))
        asyncio.get_running_loop().call_soon(meanwhile)
        return await waiting

    return asyncio.run(wait())


def test_settled_says_of_each_node_what_became_of_the_snapshot():
    world = World()
    streams = {}
    for node in ("good", "bad", "away"):
        world.fleet.publish(node, clusters("s1", "a@1"))
    for node in ("good", "bad"):
        streams[node] = world.connect(node)

    def answers():
        world.answer(*streams["good"])
        world.answer(*streams["bad"], "no")

    assert settle(world, ["good", "bad", "away", "nobody"], "s1", within=0.05, meanwhile=answers) == {
        "good": AllHeld("s1"),
        "bad": Refused((refusal("a", "1", "no"),)),
        "away": Missing("not connected"),
        "nobody": Missing("the node is not known"),
    }


def test_settled_returns_at_once_for_what_is_held_already_and_for_no_nodes():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1"))
    world.answer(*world.connect("n"))
    assert settle(world, ["n"], "s1") == {"n": AllHeld("s1")}
    assert settle(world, [], "s1") == {}


def test_settled_waits_for_a_node_that_comes_later():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1"))
    assert settle(world, ["n"], "s1", meanwhile=lambda: world.answer(*world.connect("n"))) == {"n": AllHeld("s1")}


def test_settled_ends_when_another_snapshot_is_published_or_the_node_is_forgotten():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1"))
    another = settle(world, ["n"], "s1", meanwhile=lambda: world.fleet.publish("n", clusters("s2", "a@2")))
    assert another == {"n": Missing("another snapshot was published")}
    gone = settle(world, ["n"], "s2", meanwhile=lambda: world.fleet.forget("n"))
    assert gone == {"n": Missing("the node is not known any more")}


def test_settled_waits_for_all_answers_before_it_says_refused():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1", "b@1"))
    stream, wire = world.connect("n")
    world.answer(stream, wire)
    world.fleet.publish("n", clusters("s2", "a@2", "b@2"))

    def answers():
        first, second = wire.sends[-2:]
        world.fleet.receive(stream, Nack(CLUSTER, first.nonce, "one"))
        world.fleet.receive(stream, Nack(CLUSTER, second.nonce, "two"))

    assert settle(world, ["n"], "s2", meanwhile=answers) == {
        "n": Refused((refusal("a", "2", "one"), refusal("b", "2", "two")))
    }


def test_settled_is_late_with_a_reason():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1", "b@1"))
    stream, wire = world.connect("n")
    assert settle(world, ["n"], "s1", within=0.01) == {"n": Missing("no answer yet")}
    world.answer(stream, wire)
    world.fleet.publish("n", clusters("s2", "a@2", "b@2"))
    world.fleet.receive(stream, Nack(CLUSTER, wire.sends[-2].nonce, "no"))
    assert settle(world, ["n"], "s2", within=0.01) == {"n": Refused((refusal("a", "2", "no"),))}
    world.fleet.publish("n", Snapshot("s3", {ROUTE: {"r": Resource("r", "1", b"")}}))
    world.fleet.receive(stream, Ack(CLUSTER, wire.sends[-1].nonce))
    assert settle(world, ["n"], "s3", within=0.01) == {"n": Missing("Envoy does not ask for RouteConfiguration r")}


def test_what_a_broken_stream_left_in_doubt_is_removed_on_the_next():
    world = World()
    world.fleet.publish("n", clusters("s1", "a@1", "bad@1"))
    stream, _ = world.connect("n")
    world.fleet.close(stream)  # before the answer: Envoy may have taken a and refused bad
    world.fleet.publish("n", clusters("s2"))
    stream, wire = world.connect("n")
    assert [(send.resources, send.removed) for send in wire.sends] == [((), ())]
    world.answer(stream, wire)
    assert wire.sends[-1].removed == ("a", "bad")
