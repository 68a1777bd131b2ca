"""Transcripts of one delta stream: what happens, and what the session wants done."""

import pytest

from septum.model.snapshot import Resource, Snapshot
from septum.xds.protocol import Absent, Ack, Held, Nack, Published, Rejected, Send, Stale, Subscribe
from septum.xds.session import Session
from septum.xds.types import CLUSTER, LISTENER, ROUTE, SCOPE, Refusal


def res(text: str) -> Resource:
    name, version = text.split("@")
    return Resource(name, version, text.encode())


def snapshot(version: str, **resources: str) -> Snapshot:
    urls = {"clusters": CLUSTER, "listeners": LISTENER, "routes": ROUTE, "scopes": SCOPE}
    return Snapshot(
        version, {urls[kind]: {r.name: r for r in map(res, texts.split())} for kind, texts in resources.items()}
    )


def send(nonce: int, type_url: str, resources: str = "", removed: str = "") -> Send:
    return Send(type_url, tuple(map(res, resources.split())), tuple(removed.split()), str(nonce))


def publish(version: str, **resources: str) -> Published:
    return Published(snapshot(version, **resources))


def holding(version: str, **resources: str) -> Session:
    """A session after a first exchange in which everything was taken; the nonces used up are 1 to 4."""
    session = Session()
    session.receive(publish(version, **resources))
    session.receive(Subscribe(CLUSTER))
    session.receive(Subscribe(LISTENER))
    session.receive(Subscribe(SCOPE, ("*",)))
    session.receive(Subscribe(ROUTE, tuple(session.book.desired.of(ROUTE)) or ("none",)))
    for nonce, type_url in enumerate((CLUSTER, LISTENER, SCOPE, ROUTE), start=1):
        session.receive(Ack(type_url, str(nonce)))
    assert session.book.held_version == version
    return session


SHOP = {"clusters": "a@1 b@1", "listeners": "in@1", "scopes": "a@1 b@1", "routes": "ra@1 rb@1"}


def test_first_exchange():
    session = Session()
    assert session.receive(publish("s1", **SHOP)) == []
    assert session.receive(Subscribe(CLUSTER)) == [send(1, CLUSTER, "a@1 b@1")]
    assert session.receive(Subscribe(LISTENER)) == [send(2, LISTENER, "in@1")]
    assert session.receive(Ack(CLUSTER, "1")) == [Held(CLUSTER, {"a": "1", "b": "1"})]
    assert session.receive(Ack(LISTENER, "2")) == [Held(LISTENER, {"in": "1"})]
    assert session.receive(Subscribe(SCOPE, ("*",))) == [send(3, SCOPE, "a@1 b@1")]
    assert session.receive(Subscribe(ROUTE, ("ra", "rb"))) == [send(4, ROUTE, "ra@1 rb@1")]
    assert session.receive(Ack(SCOPE, "3")) == [Held(SCOPE, {"a": "1", "b": "1"})]
    assert session.book.held_version is None
    assert session.receive(Ack(ROUTE, "4")) == [Held(ROUTE, {"ra": "1", "rb": "1"})]
    assert session.book.held_version == "s1"


def test_subscriptions_before_anything_is_published_are_answered_then_in_order():
    session = Session()
    assert session.receive(Subscribe(LISTENER)) == []
    assert session.receive(Subscribe(CLUSTER)) == []
    assert session.receive(publish("s1", clusters="a@1", listeners="in@1")) == [
        send(1, CLUSTER, "a@1"),
        send(2, LISTENER, "in@1"),
    ]


def test_an_empty_wildcard_is_answered_by_an_empty_response():
    session = Session()
    session.receive(publish("s0"))
    assert session.receive(Subscribe(CLUSTER)) == [send(1, CLUSTER)]
    assert session.receive(Ack(CLUSTER, "1")) == []
    assert session.book.held_version == "s0"
    assert session.receive(publish("s1", clusters="a@1")) == [send(2, CLUSTER, "a@1")]


def test_a_change_goes_out_alone_and_only_once():
    session = holding("s1", **SHOP)
    assert session.receive(publish("s2", **SHOP | {"routes": "ra@2 rb@1"})) == [send(5, ROUTE, "ra@2")]
    assert session.book.held_version == "s1"  # not a byte of s2 is held yet
    assert session.receive(Ack(ROUTE, "5")) == [Held(ROUTE, {"ra": "2"})]
    assert session.book.held_version == "s2"
    assert session.receive(publish("s3", **SHOP | {"routes": "ra@2 rb@1"})) == []
    assert session.book.held_version == "s3"


def test_changes_travel_one_by_one_in_make_before_break_order_and_new_ones_together():
    session = holding("s1", **SHOP)
    changed = {"clusters": "a@2 b@2 c@1 d@1", "listeners": "in@2", "scopes": "a@2 b@1", "routes": "ra@2 rb@1"}
    assert session.receive(publish("s2", **changed)) == [
        send(5, CLUSTER, "c@1 d@1"),
        send(6, CLUSTER, "a@2"),
        send(7, CLUSTER, "b@2"),
        send(8, ROUTE, "ra@2"),
        send(9, LISTENER, "in@2"),
        send(10, SCOPE, "a@2"),
    ]


def test_a_route_that_is_not_asked_for_yet_is_sent_when_its_scope_makes_envoy_ask():
    session = holding("s1", clusters="a@1", scopes="a@1", routes="ra@1")
    new = publish("s2", clusters="a@1", scopes="a@1 b@1", routes="ra@1 rb@1")
    assert session.receive(new) == [send(5, SCOPE, "b@1")]
    session.receive(Ack(SCOPE, "5"))
    assert session.book.held_version is None
    assert session.receive(Subscribe(ROUTE, ("rb",))) == [send(6, ROUTE, "rb@1")]
    session.receive(Ack(ROUTE, "6"))
    assert session.book.held_version == "s2"


def test_removals_go_in_reverse_order_once_the_additions_are_held():
    session = holding("s1", **SHOP)
    smaller = {"clusters": "a@1 c@1", "listeners": "in@1", "scopes": "a@1", "routes": "ra@1"}
    assert session.receive(publish("s2", **smaller)) == [send(5, CLUSTER, "c@1")]
    assert session.receive(Ack(CLUSTER, "5")) == [
        Held(CLUSTER, {"c": "1"}),
        send(6, SCOPE, removed="b"),
        send(7, ROUTE, removed="rb"),
        send(8, CLUSTER, removed="b"),
    ]
    session.receive(Ack(SCOPE, "6"))
    session.receive(Subscribe(ROUTE, unsubscribe=("rb",)))
    session.receive(Ack(ROUTE, "7"))
    assert session.book.held_version is None
    assert session.receive(Ack(CLUSTER, "8")) == [Held(CLUSTER, {"b": None})]
    assert session.book.held_version == "s2"
    assert session.book.held == {
        (CLUSTER, "a"): "1",
        (CLUSTER, "c"): "1",
        (LISTENER, "in"): "1",
        (SCOPE, "a"): "1",
        (ROUTE, "ra"): "1",
    }


def test_nothing_is_removed_while_something_is_refused():
    session = holding("s1", **SHOP)
    session.receive(publish("s2", clusters="a@1", listeners="in@1", scopes="a@1 b@1", routes="ra@9 rb@1"))
    refusal = Refusal(ROUTE, "ra", "9", "no such thing")
    assert session.receive(Nack(ROUTE, "5", "no such thing")) == [Rejected(refusal)]
    assert session.book.held[CLUSTER, "b"] == "1"


def test_a_removed_resource_that_comes_back_is_sent_again():
    session = holding("s1", clusters="a@1 b@1")
    assert session.receive(publish("s2", clusters="a@1")) == [send(5, CLUSTER, removed="b")]
    assert session.receive(publish("s3", clusters="a@1 b@1")) == [send(6, CLUSTER, "b@1")]
    session.receive(Ack(CLUSTER, "5"))
    session.receive(Ack(CLUSTER, "6"))
    assert session.book.held_version == "s3"


def test_a_refusal_keeps_what_is_held_and_names_resource_version_and_reason():
    session = holding("s1", **SHOP)
    session.receive(publish("s2", **SHOP | {"listeners": "in@2"}))
    refusal = Refusal(LISTENER, "in", "2", "bad address")
    assert session.receive(Nack(LISTENER, "5", "bad address")) == [Rejected(refusal)]
    assert session.book.held[LISTENER, "in"] == "1"
    assert session.book.refusals() == (refusal,)
    assert session.book.held_version == "s1"


def test_going_back_sends_the_old_version_of_what_was_refused():
    session = holding("s1", **SHOP)
    session.receive(publish("s2", **SHOP | {"listeners": "in@2"}))
    session.receive(Nack(LISTENER, "5", "bad address"))
    assert session.receive(publish("s1", **SHOP)) == [send(6, LISTENER, "in@1")]
    assert session.book.rejected  # until something else is held under that name
    assert session.receive(Ack(LISTENER, "6")) == [Held(LISTENER, {"in": "1"})]
    assert session.book.rejected == {}
    assert session.book.held_version == "s1"


def test_a_refused_version_is_tried_again_at_the_next_publication_only():
    session = holding("s1", **SHOP)
    session.receive(publish("s2", **SHOP | {"listeners": "in@2"}))
    session.receive(Nack(LISTENER, "5", "port is taken"))
    assert session.receive(Subscribe(ROUTE, unsubscribe=("rb",))) == []
    assert session.receive(publish("s2", **SHOP | {"listeners": "in@2"})) == [send(6, LISTENER, "in@2")]
    session.receive(Ack(LISTENER, "6"))
    assert session.book.rejected == {}


def test_a_refused_addition_is_removed_on_going_back():
    session = holding("s1", clusters="a@1")
    session.receive(publish("s2", clusters="a@1 b@1"))
    session.receive(Nack(CLUSTER, "5", "no"))
    assert session.receive(publish("s1", clusters="a@1")) == [send(6, CLUSTER, removed="b")]
    session.receive(Ack(CLUSTER, "6"))
    assert session.book.held_version == "s1"
    assert session.book.rejected == {}


def test_a_refused_batch_is_sent_again_one_by_one_so_that_the_refusal_has_a_name():
    session = Session()
    session.receive(publish("s1", clusters="a@1 bad@1 c@1"))
    assert session.receive(Subscribe(CLUSTER)) == [send(1, CLUSTER, "a@1 bad@1 c@1")]
    assert session.receive(Nack(CLUSTER, "1", "something")) == [
        send(2, CLUSTER, "a@1"),
        send(3, CLUSTER, "bad@1"),
        send(4, CLUSTER, "c@1"),
    ]
    assert session.book.held == {}
    assert session.receive(Ack(CLUSTER, "2")) == [Held(CLUSTER, {"a": "1"})]
    assert session.receive(Nack(CLUSTER, "3", "bad")) == [Rejected(Refusal(CLUSTER, "bad", "1", "bad"))]
    assert session.receive(Ack(CLUSTER, "4")) == [Held(CLUSTER, {"c": "1"})]
    assert set(session.book.held) == {(CLUSTER, "a"), (CLUSTER, "c")}


def test_a_late_refusal_does_not_undo_what_was_published_since():
    session = holding("s1", clusters="a@1")
    session.receive(publish("s2", clusters="a@2"))
    assert session.receive(publish("s3", clusters="a@3")) == [send(6, CLUSTER, "a@3")]
    assert session.receive(Nack(CLUSTER, "5", "no")) == [Rejected(Refusal(CLUSTER, "a", "2", "no"))]
    assert session.book.refusals() == ()  # a@2 is not wanted any more
    session.receive(Ack(CLUSTER, "6"))
    assert session.book.held_version == "s3"
    assert session.book.rejected == {}


def test_a_listener_that_takes_the_place_of_a_removed_one_is_sent_with_the_removal():
    session = holding("s1", listeners="old@1")
    assert session.receive(publish("s2", listeners="new@1")) == [send(5, LISTENER, "new@1")]
    assert session.receive(Nack(LISTENER, "5", "duplicate address")) == [send(6, LISTENER, "new@1", removed="old")]
    assert session.receive(Ack(LISTENER, "6")) == [Held(LISTENER, {"new": "1", "old": None})]
    assert session.book.held_version == "s2"


def test_a_listener_that_is_refused_also_with_the_removal_leaves_the_old_one_in_doubt():
    session = holding("s1", listeners="old@1")
    session.receive(publish("s2", listeners="new@1"))
    session.receive(Nack(LISTENER, "5", "bad"))
    refusal = Refusal(LISTENER, "new", "1", "bad")
    assert session.receive(Nack(LISTENER, "6", "bad")) == [Rejected(refusal)]
    assert session.book.held == {}
    assert session.receive(publish("s1", listeners="old@1")) == [send(7, LISTENER, "old@1")]
    assert session.receive(Ack(LISTENER, "7")) == [Held(LISTENER, {"old": "1"}), send(8, LISTENER, removed="new")]
    session.receive(Ack(LISTENER, "8"))
    assert session.book.held_version == "s1"


def test_a_refused_removal_is_told_and_tried_again_at_the_next_publication_only():
    session = holding("s1", clusters="a@1 b@1")
    session.receive(publish("s2", clusters="a@1"))
    assert session.receive(Nack(CLUSTER, "5", "in use")) == [Rejected(Refusal(CLUSTER, "b", None, "in use"))]
    assert session.receive(Subscribe(ROUTE, unsubscribe=("x",))) == []
    assert session.book.held_version is None
    assert session.receive(publish("s3", clusters="a@1")) == [send(6, CLUSTER, removed="b")]
    session.receive(Ack(CLUSTER, "6"))
    assert session.book.held_version == "s3"


def test_after_a_reconnect_only_what_differs_is_sent():
    session = Session()
    session.receive(publish("s2", clusters="a@1 b@2 c@1", listeners="in@1", scopes="a@1", routes="ra@1"))
    kept = {"a": "1", "b": "1", "gone": "1"}
    assert session.receive(Subscribe(CLUSTER, initial_versions=kept)) == [
        send(1, CLUSTER, "c@1"),
        send(2, CLUSTER, "b@2"),
    ]
    assert session.receive(Subscribe(LISTENER, initial_versions={"in": "1"})) == []
    assert session.receive(Subscribe(SCOPE, ("*",), initial_versions={"a": "1"})) == []
    assert session.receive(Subscribe(ROUTE, ("ra",), initial_versions={"ra": "1"})) == []
    session.receive(Ack(CLUSTER, "1"))
    assert session.receive(Ack(CLUSTER, "2")) == [Held(CLUSTER, {"b": "2"}), send(3, CLUSTER, removed="gone")]
    session.receive(Ack(CLUSTER, "3"))
    assert session.book.held_version == "s2"


def test_a_reconnect_before_anything_is_published_removes_nothing():
    session = Session()
    assert session.receive(Subscribe(CLUSTER, initial_versions={"a": "1", "gone": "1"})) == []
    assert session.book.surplus == set()
    assert session.receive(publish("s1", clusters="a@1")) == [send(1, CLUSTER, removed="gone")]


def test_a_name_that_does_not_exist_is_answered_once_and_sent_when_it_appears():
    session = holding("s1", routes="ra@1")
    assert session.receive(Subscribe(ROUTE, ("nope",))) == [send(5, ROUTE, removed="nope"), Absent(ROUTE, ("nope",))]
    session.receive(Ack(ROUTE, "5"))
    assert session.book.held_version == "s1"
    assert session.receive(publish("s2", routes="ra@1")) == []
    assert session.receive(publish("s3", routes="ra@1 nope@1")) == [send(6, ROUTE, "nope@1")]


def test_a_kept_name_that_is_gone_is_removed_after_the_rest_and_not_called_absent():
    session = Session()
    session.receive(publish("s2", scopes="a@2"))
    assert session.receive(Subscribe(ROUTE, ("ra",), initial_versions={"ra": "1"})) == []
    assert session.receive(Subscribe(SCOPE, ("*",), initial_versions={"a": "1"})) == [send(1, SCOPE, "a@2")]
    assert session.receive(Ack(SCOPE, "1")) == [Held(SCOPE, {"a": "2"}), send(2, ROUTE, removed="ra")]


def test_unsubscribed_resources_are_neither_sent_nor_removed():
    session = holding("s1", routes="ra@1 rb@1")
    assert session.receive(Subscribe(ROUTE, unsubscribe=("rb",))) == []
    assert (ROUTE, "rb") not in session.book.held
    assert session.receive(publish("s2", routes="ra@1 rb@2")) == []
    assert session.receive(publish("s3", routes="ra@1")) == []
    assert session.book.held_version == "s3"


def test_a_refusal_of_what_envoy_no_longer_wants_is_told_and_stands_in_nobodys_way():
    session = holding("s1", routes="ra@1")
    session.receive(publish("s2", routes="ra@2"))
    session.receive(Subscribe(ROUTE, unsubscribe=("ra",)))
    assert session.receive(Nack(ROUTE, "5", "no")) == [Rejected(Refusal(ROUTE, "ra", "2", "no"))]
    session.receive(publish("s3"))
    assert session.book.held_version == "s3"


def test_a_name_that_is_asked_for_again_is_sent_again():
    session = holding("s1", routes="ra@1")
    assert session.receive(Subscribe(ROUTE, ("ra",))) == [send(5, ROUTE, "ra@1")]


def test_unsubscribing_from_the_wildcard_keeps_what_is_asked_for_by_name():
    session = holding("s1", clusters="a@1 b@1")
    session.receive(Subscribe(CLUSTER, ("a",)))
    session.receive(Ack(CLUSTER, "5"))
    session.receive(Subscribe(CLUSTER, unsubscribe=("*",)))
    assert set(session.book.held) == {(CLUSTER, "a")}
    assert session.receive(publish("s2", clusters="a@2 b@2")) == [send(6, CLUSTER, "a@2")]


@pytest.mark.parametrize("answer", [Ack(CLUSTER, "99"), Nack(CLUSTER, "99", "late")])
def test_an_answer_to_an_unknown_nonce_changes_nothing(answer):
    session = holding("s1", **SHOP)
    assert session.receive(answer) == [Stale(CLUSTER, "99")]
    assert session.book.held_version == "s1"


def test_the_same_nonce_counts_once():
    session = Session()
    session.receive(publish("s1", clusters="a@1"))
    session.receive(Subscribe(CLUSTER))
    session.receive(Ack(CLUSTER, "1"))
    assert session.receive(Nack(CLUSTER, "1", "late")) == [Stale(CLUSTER, "1")]


def test_a_type_that_snapshots_do_not_have_is_answered_as_absent():
    session = holding("s1", **SHOP)
    other = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
    assert session.receive(Subscribe(other, ("rt",))) == [send(5, other, removed="rt"), Absent(other, ("rt",))]


def test_a_refused_empty_response_is_told():
    session = Session()
    session.receive(publish("s0"))
    session.receive(Subscribe(CLUSTER))
    assert session.receive(Nack(CLUSTER, "1", "odd")) == [Rejected(Refusal(CLUSTER, "", None, "odd"))]
