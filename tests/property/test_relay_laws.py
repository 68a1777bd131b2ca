"""Laws of the relay: a real control fleet, an agent and a model of Envoy, cut off from each other at every step."""

import json
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_xds_laws import ModelEnvoy, contents

from septum.model.snapshot import MANIFEST, Resource, Snapshot, whole
from septum.node.exchange import Exchange, Outward
from septum.xds.fleet import Fleet, Stream
from septum.xds.protocol import Event, Send, Subscribe
from septum.xds.types import CLUSTER, LISTENER, SCOPE, SECRET, Key

NODE = "n"


def snapshot(content: dict[Key, str]) -> Snapshot:
    resources: dict[str, dict[str, Resource]] = {}
    for (type_url, name), text in content.items():
        resources.setdefault(type_url, {})[name] = Resource(name, text, text.encode())
    digest = whole({type_url: names.values() for type_url, names in resources.items()})
    body = json.dumps({"node": NODE, "workloads": [], "whole": digest}).encode()
    return Snapshot(digest, resources | {MANIFEST: {"manifest": Resource("manifest", digest, body)}})


class SecretiveEnvoy(ModelEnvoy):
    """A model Envoy whose listeners need secrets: one of their own each, and the trust bundle."""

    def secrets(self) -> list[str]:
        listeners = [name for kind, name in self.config if kind == LISTENER]
        return sorted({*listeners, "bundle"}) if listeners else []

    def hello(self) -> list[Event]:
        said = {name: version for (kind, name), version in self.said.items() if kind == SECRET}
        names = self.secrets()
        return [*super().hello(), *([Subscribe(SECRET, tuple(names), (), said)] if names else [])]

    def take(self, response: Send, *, answer_first: bool) -> list[Event]:
        before = self.secrets()
        events = super().take(response, answer_first=answer_first)
        after = self.secrets()
        gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
        for name in gone:
            self.config.pop((SECRET, name), None)
            self.said.pop((SECRET, name), None)
        return [*events, Subscribe(SECRET, tuple(new), tuple(gone))] if new or gone else events

    def _accepts(self, key: Key, version: str) -> bool:
        if key[0] == SECRET and (key, version) not in self.poison and key[1] not in self.secrets():
            return True  # what it stopped asking for while it was on its way is taken and not used
        return super()._accepts(key, version)


class Link:
    """One stream between two sides, with everything that is on its way on it: an outlet for a fleet."""

    def __init__(self) -> None:
        self.down: deque[Send] = deque()
        self.up: deque[Event] = deque()
        self.stream: Stream | None = None

    def send(self, response: Send) -> None:
        self.down.append(response)

    def end(self) -> None:
        pass


class Chain(RuleBasedStateMachine):
    """Control plane, agent and Envoy. Each link may be down; what is on its way takes as long as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.envoy = SecretiveEnvoy()
        self.content: dict[Key, str] = {}
        self.secrets = {"left": "1", "right": "1", "other": "1"}
        self.kept: Snapshot | None = None
        self.upper: Link | None = None
        self.lower: Link | None = None

    # What the agent asks of the world.

    def say(self, message) -> None:
        assert self.upper
        self.upper.up.append(message)

    def keep(self, kept: Snapshot) -> None:
        """What is kept is whole, Envoy has it, and no key is in it."""
        for type_url, names in kept.resources.items():
            for name, made in names.items():
                if type_url not in (MANIFEST, SECRET):
                    assert self.envoy.config[type_url, name] == made.version
        assert not any(made.version.startswith("key") for made in kept.of(SECRET).values())
        described = json.loads(next(iter(kept.of(MANIFEST).values())).body)
        assert whole({kind: names.values() for kind, names in kept.resources.items()}) == described["whole"]
        self.kept = kept

    def described(self, manifest) -> None:
        assert manifest.node == NODE

    # Beginnings and ends.

    @initialize(content=contents())
    def start(self, content):
        self.content = content
        self.control_begins()
        self.agent_begins(restore=False)
        self.connect()

    def control_begins(self) -> None:
        self.control = Fleet(lambda: 0.0, lambda happening: None)
        self.publish()

    def publish(self) -> None:
        self.wanted = snapshot(self.content)
        self.control.publish(NODE, self.wanted)

    def agent_begins(self, *, restore: bool) -> None:
        self.agent = Exchange(NODE, lambda: 0.0, Outward(self.say, self.keep, self.described))
        self.set_locals()
        if restore and self.kept:
            self.agent.restore(self.kept)

    def set_locals(self) -> None:
        self.agent.set_locals({name: Resource(name, f"key{text}", b"") for name, text in self.secrets.items()})

    def connect(self) -> None:
        self.open_lower()
        self.open_upper()

    def open_upper(self) -> None:
        if self.upper is None:
            self.upper = Link()
            self.upper.stream = self.control.open(NODE, self.upper)
            self.agent.open()

    def close_upper(self) -> None:
        if self.upper:
            self.control.close(self.upper.stream)
            self.upper = None
            self.agent.close()

    def open_lower(self) -> None:
        if self.lower is None:
            self.lower = Link()
            self.lower.up += self.envoy.hello()
            self.lower.stream = self.agent.fleet.open(NODE, self.lower)

    def close_lower(self) -> None:
        if self.lower:
            lower, self.lower = self.lower, None
            self.agent.fleet.close(lower.stream)

    # What may happen.

    @rule(content=contents(), bundle=st.sampled_from(["", "1", "2"]))
    def publish_another(self, content, bundle):
        self.content = content | ({(SECRET, "bundle"): bundle} if bundle else {})
        self.publish()

    @rule()
    def publish_again(self):
        self.publish()

    @rule(data=st.data())
    def poison_something(self, data):
        if self.content:
            key = data.draw(st.sampled_from(sorted(self.content)))
            self.envoy.poison.add((key, self.content[key]))

    @rule()
    def cure(self):
        self.envoy.poison.clear()

    @rule(name=st.sampled_from(["left", "right", "other", "bundle"]), text=st.sampled_from("123"))
    def renew_a_certificate(self, name, text):
        self.secrets[name] = text
        self.set_locals()

    @rule()
    def leave_the_bundle_to_the_control_plane(self):
        self.secrets.pop("bundle", None)
        self.set_locals()

    @rule(answer_first=st.booleans())
    def envoy_takes_a_response(self, answer_first):
        if self.lower and self.lower.down:
            self.lower.up += self.envoy.take(self.lower.down.popleft(), answer_first=answer_first)

    @rule()
    def agent_hears_envoy(self):
        if self.lower and self.lower.up:
            self.agent.fleet.receive(self.lower.stream, self.lower.up.popleft())

    @rule()
    def agent_hears_control(self):
        if self.upper and self.upper.down:
            self.agent.arrive(self.upper.down.popleft())

    @rule()
    def control_hears_the_agent(self):
        if self.upper and self.upper.up:
            self.control.receive(self.upper.stream, self.upper.up.popleft())

    def on_its_way(self) -> bool:
        return any(link and (link.down or link.up) for link in (self.upper, self.lower))

    @rule()
    def drain(self):
        for _ in range(2000):
            if not self.on_its_way():
                break
            self.control_hears_the_agent()
            self.agent_hears_control()
            self.envoy_takes_a_response(answer_first=True)
            self.agent_hears_envoy()
        else:
            raise AssertionError("the conversation does not end")
        if self.upper and self.lower:
            assert self.session.quiet, "everything is answered in the end"

    @rule()
    def the_control_plane_is_lost(self):
        self.close_upper()

    @rule()
    def the_control_plane_restarts(self):
        self.close_upper()
        self.control_begins()
        self.open_upper()

    @rule()
    def the_stream_breaks(self):
        self.close_upper()
        self.open_upper()

    @rule()
    def envoy_is_cut_off(self):
        self.close_lower()

    @rule()
    def envoy_dies(self):
        self.close_lower()
        self.envoy.config, self.envoy.said = {}, {}

    @rule()
    def envoy_restarts(self):
        self.envoy_dies()
        self.open_lower()

    @rule(restore=st.booleans(), lower_first=st.booleans())
    def the_agent_restarts(self, restore, lower_first):
        self.close_upper()
        self.lower = None
        self.agent_begins(restore=restore)
        if lower_first:
            self.open_lower()
            while self.lower.up:
                self.agent_hears_envoy()
        self.connect()

    @rule()
    def all_are_there_again(self):
        self.connect()

    @precondition(lambda self: hasattr(self, "control") and self.settled())
    @rule(data=st.data())
    def a_one_resource_change_costs_two_responses_on_either_side(self, data):
        """The resource and the manifest go down to the agent; Envoy gets the resource alone."""
        keys = sorted(key for key in self.content if key[0] in (CLUSTER, SCOPE))
        if keys:
            key = data.draw(st.sampled_from(keys))
            self.content = self.content | {key: self.content[key] + "+"}
            self.publish()
            assert [(s.type_url, len(s.resources), s.removed) for s in self.upper.down] == [
                (key[0], 1, ()),
                (MANIFEST, 1, ()),
            ]
            self.agent_hears_control()
            assert [(s.type_url, [r.name for r in s.resources]) for s in self.lower.down] == [(key[0], [key[1]])]
            self.agent_hears_control()
            assert not self.upper.up, "nothing is answered before Envoy has"

    # What always holds.

    @property
    def session(self):
        return self.upper.stream.session

    def settled(self) -> bool:
        connected = self.upper and self.lower and not self.on_its_way()
        return bool(connected) and self.session.book.held_version == self.wanted.version

    def envoy_has(self) -> dict[Key, str]:
        """What Envoy runs of what the control plane sent; a key is never from there."""
        return {key: version for key, version in self.envoy.config.items() if not version.startswith("key")}

    def expected(self) -> dict[Key, str]:
        """What the control plane wants, as far as Envoy asks for it and has nothing of the node's own in its place."""
        asked = {(SECRET, name) for name in self.envoy.secrets()}
        own = self.envoy.config.keys() - self.envoy_has().keys()
        return {k: version for k, version in self.content.items() if k[0] != SECRET or k in asked - own}

    @invariant()
    def what_control_calls_held_is_what_envoy_runs(self):
        """Once what Envoy and the agent have said was heard."""
        if not self.upper or self.upper.up or (self.lower and self.lower.up):
            return
        book = self.session.book
        if book.desired is None:
            return
        for key, version in self.expected().items():
            if book.held.get(key) == version and not self.session.awaits(key):
                assert self.lower
                assert self.envoy.config.get(key) == version
        if book.held_version == self.wanted.version:
            assert self.envoy_has() == self.expected()

    @invariant()
    def what_is_refused_upward_was_refused_by_envoy(self):
        if self.upper:
            for key, refusal in self.session.book.rejected.items():
                assert "bad: [" in refusal.reason, (key, refusal)

    def teardown(self):
        """Without refusals, everything that is published is held in the end, and kept."""
        if hasattr(self, "control"):
            self.envoy.poison.clear()
            self.connect()
            self.drain()
            self.publish()
            self.drain()
            assert self.envoy_has() == self.expected()
            wanted_secrets = set(self.envoy.secrets()) & self.secrets.keys()
            assert all(self.envoy.config[SECRET, name] == f"key{self.secrets[name]}" for name in wanted_secrets)
            assert self.session.book.held_version == self.wanted.version
            assert not self.session.book.rejected
            assert self.kept
            assert self.kept.version == self.wanted.version
            assert self.agent.relay.whole
            assert self.agent.relay.good


Chain.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestChain = Chain.TestCase
