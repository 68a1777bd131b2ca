"""What an agent needs of a session, a fleet and the wire, beyond what Envoy does."""

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from septum.model.snapshot import Resource, Snapshot
from septum.xds import client_wire, wire
from septum.xds.fleet import Fleet
from septum.xds.protocol import Ack, Defer, Held, Nack, Published, Send, Stale, Subscribe
from septum.xds.session import Session
from septum.xds.types import CLUSTER, LISTENER, ROUTE, SECRET


def snapshot(version: str, type_url: str = CLUSTER, **versions: str) -> Snapshot:
    return Snapshot(version, {type_url: {name: Resource(name, v, b"") for name, v in versions.items()}})


def asked(first: Snapshot, type_url: str = CLUSTER) -> Session:
    session = Session()
    session.receive(Published(first))
    session.receive(Subscribe(type_url, ("*",)))
    return session


def test_an_answer_to_what_was_superseded_says_nothing_of_what_is_held():
    session = asked(snapshot("s1", a="1"))
    session.receive(Ack(CLUSTER, "1"))
    session.receive(Published(snapshot("s2", a="2")))
    session.receive(Published(snapshot("s3", a="3")))
    session.receive(Ack(CLUSTER, "2"))  # an agent has not shown version 2 to Envoy
    assert session.book.held == {}
    session.receive(Nack(CLUSTER, "3", "bad"))
    assert session.book.held == {}
    assert session.book.unheld == {(CLUSTER, "a")}


def test_a_version_that_comes_back_is_held_when_its_last_sending_is_answered():
    session = asked(snapshot("s1", a="1"))
    session.receive(Published(snapshot("s2", a="2")))
    session.receive(Published(snapshot("s3", a="1")))
    session.receive(Ack(CLUSTER, "1"))
    session.receive(Ack(CLUSTER, "2"))
    assert session.book.held == {}
    session.receive(Ack(CLUSTER, "3"))
    assert session.book.held == {(CLUSTER, "a"): "1"}
    assert session.book.held_version == "s3"


def test_something_is_awaited_until_the_last_of_its_name_is_answered():
    session = asked(snapshot("s1", a="1", b="1"))
    session.receive(Published(snapshot("s2", a="2", b="1")))
    assert [session.awaits((CLUSTER, name)) for name in "abc"] == [True, True, False]
    session.receive(Ack(CLUSTER, "1"))
    assert [session.awaits((CLUSTER, name)) for name in "ab"] == [True, False]
    session.receive(Ack(CLUSTER, "2"))
    assert not session.awaits((CLUSTER, "a"))


def test_a_session_knows_on_which_types_envoy_has_spoken():
    session = asked(snapshot("s1"))
    assert session.asked_for(CLUSTER)
    assert not session.asked_for(LISTENER)


def test_what_is_deferred_is_neither_held_nor_refused_and_ends_the_waiting():
    session = asked(snapshot("s1", ROUTE, ra="1"), ROUTE)
    assert session.receive(Defer(ROUTE, "1")) == []
    assert session.quiet
    assert session.book.unheld == {(ROUTE, "ra")}
    assert session.book.rejected == {}
    assert session.book.held_version is None


def test_what_is_deferred_among_others_is_found_by_sending_them_one_by_one():
    session = asked(snapshot("s1", ROUTE, ra="1", rb="1"), ROUTE)
    sent = session.receive(Defer(ROUTE, "1"))
    assert [[made.name for made in send.resources] for send in sent] == [["ra"], ["rb"]]
    session.receive(Ack(ROUTE, sent[0].nonce))
    assert session.receive(Defer(ROUTE, sent[1].nonce)) == []
    assert session.book.held == {(ROUTE, "ra"): "1"}


def test_what_was_deferred_is_sent_when_it_is_asked_for_by_name_and_removed_when_it_is_not_wanted():
    session = asked(snapshot("s1", ROUTE, ra="1"), ROUTE)
    session.receive(Defer(ROUTE, "1"))
    (send,) = session.receive(Subscribe(ROUTE, ("ra",)))
    assert send.resources[0].name == "ra"
    session.receive(Defer(ROUTE, send.nonce))
    (removal,) = session.receive(Published(snapshot("s2", ROUTE)))
    assert removal.removed == ("ra",)


def test_an_answer_that_defers_nothing_that_is_open_is_stale():
    assert asked(snapshot("s1")).receive(Defer(CLUSTER, "7")) == [Stale(CLUSTER, "7")]


def test_a_secret_that_nobody_asks_for_is_not_missing_and_keeps_nothing_from_being_removed():
    session = Session()
    secrets = snapshot("s1", SECRET, own="1").resources
    session.receive(Published(Snapshot("s1", secrets | snapshot("", CLUSTER, a="1").resources)))
    session.receive(Subscribe(CLUSTER))
    session.receive(Ack(CLUSTER, "1"))
    assert session.book.held_version == "s1"
    (removal,) = session.receive(Published(Snapshot("s2", secrets)))
    assert removal.removed == ("a",)
    session.receive(Ack(CLUSTER, removal.nonce))
    (sent,) = session.receive(Subscribe(SECRET, ("own",)))
    assert session.book.unheld == {(SECRET, "own")}
    session.receive(Ack(SECRET, sent.nonce))
    assert session.book.unheld == set()


class Outlet:
    def __init__(self) -> None:
        self.sends: list[Send] = []
        self.ended = False

    def send(self, response: Send) -> None:
        self.sends.append(response)

    def end(self) -> None:
        self.ended = True


def test_a_node_that_is_renamed_keeps_its_stream_and_makes_room_for_another():
    fleet = Fleet(lambda: 0.0, lambda happening: None)
    fleet.publish("n", snapshot("s1", a="1"))
    outlet = Outlet()
    stream = fleet.open("n", outlet)
    fleet.rename("n", "old")
    fleet.receive(stream, Subscribe(CLUSTER))
    assert [status.node for status in fleet.status()] == ["old"]
    assert [made.name for made in outlet.sends[0].resources] == ["a"]
    fleet.publish("n", snapshot("s1", a="1"))
    fleet.open("n", Outlet())
    assert not outlet.ended
    fleet.rename("old", "n")
    assert [(status.node, status.sent) for status in fleet.status()] == [("n", 1)]


def test_whoever_watches_a_fleet_hears_of_each_event_once_it_was_carried_out():
    watched = []

    def watch(node, session, event, commands) -> None:
        watched.append((node, event, [command for command in commands if isinstance(command, Held)], session.quiet))

    fleet = Fleet(lambda: 0.0, lambda happening: None, watch)
    first = snapshot("s1", a="1")
    fleet.publish("n", first)
    stream = fleet.open("n", Outlet())
    fleet.receive(stream, Subscribe(CLUSTER))
    fleet.receive(stream, Ack(CLUSTER, "1"))
    assert watched == [
        ("n", Published(first), [], True),
        ("n", Subscribe(CLUSTER), [], False),
        ("n", Ack(CLUSTER, "1"), [Held(CLUSTER, {"a": "1"})], True),
    ]


@pytest.mark.parametrize(
    "message",
    [
        Subscribe(CLUSTER, ("*",), (), {"a": "1"}),
        Subscribe(CLUSTER, ("a", "b")),
        Subscribe(CLUSTER, (), ("a",)),
        Ack(CLUSTER, "7"),
        Nack(CLUSTER, "7", "a reason; with \u00fc"),
        Defer(CLUSTER, "7"),
    ],
)
def test_what_a_client_writes_a_server_reads(message):
    assert list(wire.events(wire.read(client_wire.write(message)))) == [message]


def test_the_first_request_names_the_node():
    assert DeltaDiscoveryRequest.FromString(client_wire.write(Subscribe(CLUSTER, ("*",)), "alpha")).node.id == "alpha"
    assert not DeltaDiscoveryRequest.FromString(client_wire.write(Ack(CLUSTER, "1"))).HasField("node")


def test_what_a_server_writes_a_client_reads():
    send = Send(CLUSTER, (Resource("a", "1", b"A"), Resource("b", "2", b"")), ("gone",), "7")
    assert client_wire.read(wire.write(send)) == send
    assert client_wire.read(DeltaDiscoveryResponse(nonce="1").SerializeToString()) == Send("", (), (), "1")


def test_bytes_that_are_no_response_are_an_error():
    with pytest.raises(wire.WireError):
        client_wire.read(b"\xff\xff")
