"""Laws of a session, against a model of Envoy that takes, refuses, falls silent and comes back as it likes."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from septum.model.snapshot import Resource, Snapshot
from septum.xds.protocol import Ack, Event, Nack, Published, Send, Subscribe
from septum.xds.session import Session
from septum.xds.types import CLUSTER, LISTENER, ROUTE, SCOPE, Key

VERSIONS = st.sampled_from("123")
# `left` and `right` claim one address, so they are never in one snapshot.
LISTENERS = st.sampled_from([(), ("left",), ("right",), ("other",), ("left", "other"), ("right", "other")])
ADDRESSES = {"left": 1, "right": 1, "other": 2}


@st.composite
def contents(draw) -> dict[Key, str]:
    """What a consistent snapshot says: every route has a scope that refers to it."""
    found = {(CLUSTER, name): draw(VERSIONS) for name in draw(st.sets(st.sampled_from("abc")))}
    found |= {(LISTENER, name): draw(VERSIONS) for name in draw(LISTENERS)}
    scopes = draw(st.dictionaries(st.sampled_from("xyz"), st.sampled_from("pqr")))
    found |= {(SCOPE, name): f"{route}{draw(VERSIONS)}" for name, route in scopes.items()}
    return found | {(ROUTE, route): draw(VERSIONS) for route in set(scopes.values())}


def snapshot(version: int, content: dict[Key, str]) -> Snapshot:
    resources: dict[str, dict[str, Resource]] = {}
    for (type_url, name), text in content.items():
        resources.setdefault(type_url, {})[name] = Resource(name, text, b"")
    return Snapshot(f"s{version}", resources)


class ModelEnvoy:
    """What Envoy does with responses. `config` is what it runs; `said` is what it says it has after a reconnect."""

    def __init__(self) -> None:
        self.config: dict[Key, str] = {}
        self.said: dict[Key, str] = {}
        self.poison: set[tuple[Key, str]] = set()

    def hello(self) -> list[Event]:
        said = {t: {n: v for (kind, n), v in self.said.items() if kind == t} for t in (CLUSTER, LISTENER, SCOPE, ROUTE)}
        greetings = [Subscribe(t, initial_versions=said[t]) for t in (CLUSTER, LISTENER, SCOPE)]
        routes = self.routes()
        return [*greetings, Subscribe(ROUTE, tuple(routes), (), said[ROUTE])] if routes else list(greetings)

    def routes(self) -> list[str]:
        return sorted({version[0] for (kind, _), version in self.config.items() if kind == SCOPE})

    def take(self, response: Send, *, answer_first: bool) -> list[Event]:
        before = self.routes()
        reason = self._apply(response)
        answer = Nack(response.type_url, response.nonce, reason) if reason else Ack(response.type_url, response.nonce)
        if not reason:
            taken = {(response.type_url, r.name): r.version for r in response.resources}
            self.said |= {key: version for key, version in taken.items() if key in self.config}
        interest = self._interest(response.type_url, before)
        return [answer, *interest] if answer_first else [*interest, answer]

    def _apply(self, response: Send) -> str:
        """Removals first, then whatever is good, also beside something bad."""
        for name in response.removed:
            self.config.pop((response.type_url, name), None)
            self.said.pop((response.type_url, name), None)
        bad = [r.name for r in response.resources if not self._accepts((response.type_url, r.name), r.version)]
        return f"bad: {bad}" if bad else ""

    def _accepts(self, key: Key, version: str) -> bool:
        if (key, version) in self.poison or self._clashes(key):
            return False
        # What Envoy stopped asking for while it was on its way is taken and not used.
        if key[0] != ROUTE or key[1] in self.routes():
            self.config[key] = version
        return True

    def _clashes(self, key: Key) -> bool:
        others = [name for kind, name in self.config if kind == LISTENER and name != key[1]]
        return key[0] == LISTENER and ADDRESSES[key[1]] in [ADDRESSES[name] for name in others]

    def _interest(self, type_url: str, before: list[str]) -> list[Event]:
        after = self.routes()
        gone, new = [r for r in before if r not in after], [r for r in after if r not in before]
        for name in gone:
            self.config.pop((ROUTE, name), None)
            self.said.pop((ROUTE, name), None)
        return [Subscribe(ROUTE, tuple(new), tuple(gone))] if new or gone else []


class Conversation(RuleBasedStateMachine):
    """A session and a model Envoy, with everything between them on its way for as long as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.envoy = ModelEnvoy()
        self.published = 0
        self.content: dict[Key, str] = {}

    @initialize(content=contents())
    def start(self, content):
        self.content = content
        self.connect()

    def connect(self) -> None:
        self.session = Session(doubtful=self.session.doubtful if hasattr(self, "session") else ())
        self.to_envoy: deque[Send] = deque()
        self.to_control: deque[Event] = deque(self.envoy.hello())
        self.sent_last: dict[Key, str] = {}
        self.responses: dict[str, Send] = {}
        self.acknowledged = {(key, version) for key, version in self.envoy.said.items()}
        self.publish()

    def publish(self) -> list[Send]:
        self.published += 1
        return self.give(Published(snapshot(self.published, self.content)))

    def give(self, event: Event) -> list[Send]:
        self.note(event)
        sends = [command for command in self.session.receive(event) if isinstance(command, Send)]
        for send in sends:
            self.check(send)
        self.to_envoy += sends
        return sends

    def note(self, event: Event) -> None:
        """Keep account of what may be sent again, and of what was acknowledged."""
        match event:
            case Nack(type_url, nonce):
                for resource in self.responses[nonce].resources:
                    if self.sent_last.get((type_url, resource.name)) == resource.version:
                        del self.sent_last[type_url, resource.name]
            case Ack(type_url, nonce):
                self.acknowledged |= {((type_url, r.name), r.version) for r in self.responses[nonce].resources}
            case Subscribe(type_url, names, gone, kept):
                for name in (*names, *gone):
                    self.sent_last.pop((type_url, name), None)
                self.sent_last |= {(type_url, name): version for name, version in kept.items()}

    def check(self, send: Send) -> None:
        """Nothing is sent twice; nothing is removed before everything else is held."""
        self.responses[send.nonce] = send
        for resource in send.resources:
            key = (send.type_url, resource.name)
            assert self.sent_last.get(key) != resource.version
            assert self.content[key] == resource.version
            self.sent_last[key] = resource.version
        for name in send.removed:
            had = self.sent_last.pop((send.type_url, name), None)
            assert not had or send.resources or not self.session.book.unheld

    @rule(content=contents())
    def publish_another(self, content):
        self.content = content
        self.publish()

    @rule()
    def publish_again(self):
        self.publish()

    @rule(data=st.data())
    def poison_something(self, data):
        if self.content:
            key = data.draw(st.sampled_from(sorted(self.content)))
            self.envoy.poison.add((key, self.content[key]))

    @rule(answer_first=st.booleans())
    def envoy_takes_a_response(self, answer_first):
        if self.to_envoy:
            self.to_control += self.envoy.take(self.to_envoy.popleft(), answer_first=answer_first)

    @rule()
    def control_takes_a_request(self):
        if self.to_control:
            self.give(self.to_control.popleft())

    @rule()
    def drain(self):
        for _ in range(1000):
            if not (self.to_envoy or self.to_control):
                return
            self.control_takes_a_request()
            self.envoy_takes_a_response(answer_first=True)
        raise AssertionError("the conversation does not end")

    @rule()
    def the_stream_breaks(self):
        self.connect()

    @rule()
    def envoy_restarts(self):
        self.envoy.config, self.envoy.said = {}, {}
        self.connect()

    @precondition(lambda self: self.content and self.session.book.held_version == f"s{self.published}")
    @rule(data=st.data())
    def a_one_resource_change_sends_exactly_one_resource(self, data):
        key = data.draw(st.sampled_from(sorted(self.content)))
        self.content = self.content | {key: self.content[key] + "+"}
        sends = self.publish()
        assert [(s.type_url, [r.name for r in s.resources], s.removed) for s in sends] == [(key[0], [key[1]], ())]

    @invariant()
    def a_node_holds_only_what_it_acknowledged(self):
        if hasattr(self, "session"):
            assert set(self.session.book.held.items()) <= self.acknowledged

    @invariant()
    def what_is_called_held_is_what_envoy_runs(self):
        if hasattr(self, "session") and not (self.to_envoy or self.to_control):
            assert self.session.book.held.items() <= self.envoy.config.items()
            if self.session.book.held_version == f"s{self.published}":
                assert self.envoy.config == self.content

    @invariant()
    def the_accounts_agree_with_their_definition(self):
        if hasattr(self, "session"):
            book = self.session.book
            assert book.unheld == {key for key, version in self.content.items() if book.held.get(key) != version}
            assert book.surplus == {key for key in book.sent if key not in self.content}

    def teardown(self):
        """Without refusals, everything that is published is held in the end."""
        if hasattr(self, "session"):
            self.envoy.poison.clear()
            self.drain()
            self.publish()
            self.drain()
            assert self.envoy.config == self.content
            assert self.session.book.held_version == f"s{self.published}"
            assert not self.session.book.rejected


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestConversation = Conversation.TestCase
