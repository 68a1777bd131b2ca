"""What an agent does between the control plane and Envoy: events in, commands out. No I/O and no clock.

To the control plane the agent is the node: it asks for everything, and answers for Envoy. To Envoy it is the control
plane, by a `Session` of its own. The rules:

- A response is answered once Envoy has answered for each resource in it, and not while Envoy is away.
- What was superseded before Envoy answered says nothing: the newer response that supersedes it is answered after it.
- When Envoy no longer holds what it was said to hold, the agent asks for that again, by name; so it counts as not held
  until Envoy has it. When Envoy holds after all what it was said to refuse, the same.
- A new stream begins with what Envoy holds for certain. What the control plane neither knows of nor sends by the time
  the manifest comes, which is last, is not wanted any more.
- What Envoy does not ask for because something else is refused is deferred: that is no refusal, but an answer.
- The manifest is taken once all that came before it was answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from septum.model.snapshot import MANIFEST, Resource, Snapshot
from septum.node.answers import Answers, Response
from septum.node.manifest import Manifest, ManifestError, read
from septum.node.received import Received
from septum.xds import protocol
from septum.xds.order import TYPES
from septum.xds.protocol import Ack, Defer, Held, Nack, Rejected, Send, Subscribe
from septum.xds.session import Session
from septum.xds.types import ALL, CLUSTER, LISTENER, ON_DEMAND, SECRET, Key, Refusal


@dataclass(frozen=True, slots=True)
class Restored:
    """This snapshot was the last good one when the agent ended. Raises ManifestError when its manifest is not good."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream to the control plane begins; nothing was said on it yet."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The control plane sent a response."""

    send: Send


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream to the control plane ended."""


@dataclass(frozen=True, slots=True)
class Locals:
    """All of the node's own secrets, by name. A version is a digest of the whole secret."""

    resources: Mapping[str, Resource]


@dataclass(frozen=True, slots=True)
class Envoy:
    """The session of Envoy's stream has taken an event; `commands` are what it wanted done."""

    session: Session
    event: protocol.Event
    commands: Sequence[protocol.Command]


@dataclass(frozen=True, slots=True)
class EnvoyGone:
    """Envoy's stream ended."""


Event = Restored | Opened | Arrived | Closed | Locals | Envoy | EnvoyGone


@dataclass(frozen=True, slots=True)
class Publish:
    """This is what Envoy should hold."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Say:
    """A request for the stream to the control plane."""

    message: Subscribe | Ack | Nack | Defer


@dataclass(frozen=True, slots=True)
class Keep:
    """Envoy holds this snapshot, and it is whole: the one to start from when the control plane is away."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Described:
    """The control plane says, by its manifest, what the node should be."""

    manifest: Manifest


Command = Publish | Say | Keep | Described


class Relay:
    """The relay of one node. After a `Publish`, the `Envoy` event of it is the next event, if Envoy is there."""

    def __init__(self, node: str) -> None:
        self.manifest: Manifest | None = None
        self._kept: tuple[str, Manifest | None] | None = None
        self._node = node
        self._received = Received()
        self._published: Snapshot | None = None
        self._session: Session | None = None
        self._answers = Answers()
        # Responses of which every resource is to be looked at, and those of which one was.
        self._unseen: dict[str, Response] = {}
        self._seen: dict[str, Response] = {}
        # What the control plane takes to be held as it was received, and what it was told is refused or deferred.
        self._claimed: set[Key] = set()
        self._denied: set[Key] = set()
        # What was refused in a response with others: the control plane asks once more, to know which one was meant.
        self._unnamed: set[Key] = set()
        # What came on an earlier stream and was neither sent nor told of on this one. None: all that is settled.
        self._unconfirmed: set[Key] | None = None
        # Whether something came of which the manifest is still to come.
        self._partial = False

    @property
    def unanswered(self) -> int:
        """How many responses of the control plane have no answer yet."""
        return self._answers.count()

    @property
    def whole(self) -> bool:
        """Whether all that the control plane wants of the node, and nothing else, was received."""
        return self.manifest is not None and self.manifest.whole == self._received.whole

    @property
    def published(self) -> str:
        """The version of what Envoy should hold; empty while that is not known."""
        return self._published.version if self._published else ""

    @property
    def good(self) -> bool:
        """Whether what was received is what was kept last: whole, and held by Envoy when it was kept."""
        return self._kept == (self._received.whole, self.manifest)

    def receive(self, event: Event) -> list[Command]:
        """Take what happened. The commands are in order."""
        match event:
            case Restored(snapshot):
                return self._restored(snapshot)
            case Opened():
                return self._opened()
            case Arrived(send):
                return self._arrived(send) + self._afterwards()
            case Closed():
                self._forget_stream()
                return []
            case Locals(resources):
                return self._locals(resources)
            case Envoy(session, cause, commands):
                return self._envoy(session, cause, commands) + self._afterwards()
            case EnvoyGone():
                self._session = None
                return self._lost()
            case _:
                assert_never(event)

    def _restored(self, snapshot: Snapshot) -> list[Command]:
        described = self._describe(snapshot.of(MANIFEST).values())
        for type_url in TYPES:
            self._received.take(type_url, snapshot.of(type_url).values(), ())
        self._kept = (self._received.whole, self.manifest)
        return [*described, self._publish()]

    def _locals(self, resources: Mapping[str, Resource]) -> list[Command]:
        if not self._received.put(resources):
            return []
        self._look_at(response for response in self._answers.all() if response.type_url == SECRET)
        return [self._publish()]

    def _publish(self) -> Publish:
        self._published = self._received.published()
        return Publish(self._published)

    # The stream to the control plane.

    def _opened(self) -> list[Command]:
        self._forget_stream()
        held: dict[str, dict[str, str]] = {}
        self._unconfirmed = set(self._received.keys())
        for key in self._unconfirmed:
            made = self._received.of(key)
            if made and not self._received.own(key) and self._holds(key):
                held.setdefault(key[0], {})[key[1]] = made.version
                self._claimed.add(key)
        self._unconfirmed -= self._claimed
        return [Say(Subscribe(type_url, (ALL,), (), held.get(type_url, {}))) for type_url in TYPES]

    def _forget_stream(self) -> None:
        self._answers = Answers()
        for account in (self._unseen, self._seen, self._claimed, self._denied, self._unnamed):
            account.clear()

    def _arrived(self, send: Send) -> list[Command]:
        response = self._answers.add(send)
        keys = [(send.type_url, name) for name in response.versions]
        again = any(self._is_to_be_tried_again(key) for key in keys)
        for account in (self._claimed, self._denied, self._unnamed):
            account.difference_update(keys)
        self._look_at([response])
        if send.type_url == MANIFEST:
            return self._manifest(response, send)
        if self._unconfirmed:
            self._unconfirmed.difference_update(keys)
        self._partial |= self._received.differs(send.type_url, send.resources)
        changed = self._received.take(send.type_url, send.resources, send.removed)
        return [self._publish()] if changed or again else []

    def _is_to_be_tried_again(self, key: Key) -> bool:
        """Whether Envoy refused it: the control plane sends it as it was to have it tried again, or to know a name."""
        return self._session is not None and key in self._session.book.rejected and key not in self._unnamed

    def _manifest(self, response: Response, send: Send) -> list[Command]:
        self._partial = False
        commands: list[Command] = []
        try:
            commands += self._describe(send.resources)
            self._received.take(MANIFEST, send.resources, send.removed)
        except ManifestError as error:
            for name, version in response.versions.items():
                response.note(name, Refusal(MANIFEST, name, version, str(error)))
        changed = self._drop_unconfirmed()
        # A node of which nothing is wanted is told so: Envoy waits for its first answers.
        return [*commands, self._publish()] if changed or self._published is None else commands

    def _describe(self, resources: Iterable[Resource]) -> list[Command]:
        before = self.manifest
        for made in resources:
            self.manifest = read(made.body, self._node)
        return [Described(self.manifest)] if self.manifest and self.manifest != before else []

    def _drop_unconfirmed(self) -> bool:
        unconfirmed, self._unconfirmed = self._unconfirmed or (), None
        changed = [self._received.take(kind, (), names) for kind, names in _by_type(unconfirmed).items()]
        return any(changed)

    # Envoy's stream.

    def _envoy(self, session: Session, cause: protocol.Event, commands: Sequence[protocol.Command]) -> list[Command]:
        lost: list[Command] = []
        if session is not self._session:
            self._session = session
            lost = self._lost()
        if isinstance(cause, Subscribe):  # with its first word on a type, Envoy says what it has of it
            self._look_at(response for response in self._answers.all() if None in response.versions.values())
        return lost + self._heard(_named(cause, commands))

    def _lost(self) -> list[Command]:
        """Envoy's stream began or ended: what was known of it is not known any more."""
        self._look_at(self._answers.all())
        return self._ask_again([*self._claimed, *self._denied])

    def _heard(self, keys: Iterable[Key]) -> list[Command]:
        """Take note of what Envoy's session now says of these."""
        again = []
        for key in keys:
            response = self._answers.newest(key)
            if response is not None:
                response.note(key[1], self._outcome(key, response.versions[key[1]]))
                self._seen[response.nonce] = response
            elif self._is_other_than_told(key):
                again.append(key)
        return self._ask_again(again)

    def _is_other_than_told(self, key: Key) -> bool:
        if key in self._claimed:
            return self._session is None or key in self._session.book.unheld
        return key in self._denied and self._holds(key)

    def _ask_again(self, keys: list[Key]) -> list[Command]:
        """Have the control plane send these again, which takes them for not held until that is answered."""
        self._claimed.difference_update(keys)
        self._denied.difference_update(keys)
        asked = _by_type(keys)
        return [Say(Subscribe(type_url, tuple(asked[type_url]))) for type_url in TYPES if type_url in asked]

    # What is known, and what follows from it.

    def _holds(self, key: Key) -> bool:
        """Whether Envoy for certain holds what it should have under a name, and nothing else is on its way."""
        session, wanted = self._session, self._received.wanted(key)
        if session is None or wanted is None or session.awaits(key):
            return False
        return session.book.held.get(key) == wanted.version

    def _outcome(self, key: Key, version: str | None) -> bool | Refusal:
        """Whether Envoy holds what was received, or has not what was removed; False while that is not known."""
        session = self._session
        if session is None or session.awaits(key):
            return False
        refusal = session.book.rejected.get(key)
        wanted = self._received.wanted(key)
        if wanted is None or version is None:
            if refusal and refusal.version is None:
                return refusal
            return wanted is not None or (_introduced(session) and key not in session.book.sent)
        if refusal and refusal.version == wanted.version:
            return refusal
        return self._holds(key)

    def _look_at(self, responses: Iterable[Response]) -> None:
        self._unseen.update((response.nonce, response) for response in responses)

    def _afterwards(self) -> list[Command]:
        """Answer what can be answered, once Envoy's session has what was published last."""
        session = self._session
        if session is None or session.book.desired is not self._published:
            return self._answer([response for response in self._unseen.values() if not response.versions])
        self._see()
        commands = self._answer(self._seen.values())
        self._seen.clear()
        if session.quiet:
            commands += self._conclude(session)
        return commands + self._answer_manifests() + self._keep(session)

    def _see(self) -> None:
        for response in self._unseen.values():
            if response.type_url != MANIFEST and response in self._answers:
                for name in self._answers.newest_names(response):
                    response.note(name, self._outcome((response.type_url, name), response.versions[name]))
        self._seen.update(self._unseen)
        self._unseen.clear()

    def _conclude(self, session: Session) -> list[Command]:
        """Nothing is on its way to Envoy: what is not known now will not be without something new."""
        for response in self._answers.all():
            for name in list(response.open):
                response.note(name, self._outcome((response.type_url, name), response.versions[name]))
        commands = self._answer(self._answers.all(), refused=True)
        if not self._partial and self._unconfirmed is None and _introduced(session):
            self._settle_for_less(session)
            commands += self._answer(self._answers.all())
        return commands

    def _settle_for_less(self, session: Session) -> None:
        """What Envoy does not ask for it does not need, or will not get as things are.

        Two things may be in the way, and both make the control plane wait with the removals that end this. It knows of
        a refusal; or it waits for an answer about something that is not wanted any more, but is not removed yet.
        """
        denied = any((refusal.type_url, refusal.name) in self._denied for refusal in session.book.refusals())
        stuck = denied or not self.whole
        for response in self._answers.all():
            for name in list(response.open):
                wanted, sent = response.versions[name] is not None, (response.type_url, name) in session.book.sent
                if wanted and not sent and response.type_url in ON_DEMAND:
                    response.drop(name)
                elif stuck and wanted != sent:
                    response.defer(name)

    def _answer(self, responses: Iterable[Response], *, refused: bool = False) -> list[Command]:
        """Answer those of which everything is known; with `refused` also those of which a refusal is."""
        commands: list[Command] = []
        due = list(responses)
        for response in due:  # grows, as one answer makes way for another
            known = not response.open or (refused and response.refused)
            if known and response in self._answers and self._answers.first(response):
                commands += self._say(response)
                due += self._answers.remove(response)
        return commands

    def _say(self, response: Response) -> list[Command]:
        """Give the answer, and take account of what the control plane takes to be held by it."""
        answer = response.answer()
        names = [n for n in self._answers.newest_names(response) if response.versions[n] is not None]
        held = [(response.type_url, n) for n in names if n not in response.refused and n not in response.deferred]
        if isinstance(answer, Ack):
            self._claimed.update(held)
            return [Say(answer)]
        if not response.alone:
            self._unnamed |= {(response.type_url, name) for name in response.refused}
            return [Say(answer)]
        self._denied |= {(response.type_url, name) for name in names}
        # What is held all the same is in doubt with the rest of the response.
        return [Say(answer), *self._ask_again(held)]

    def _answer_manifests(self) -> list[Command]:
        if not self._answers.none():
            return []
        manifests = self._answers.manifests()
        for manifest in manifests:
            manifest.open.clear()
        return self._answer(manifests)

    def _keep(self, session: Session) -> list[Command]:
        if not self.whole or session.book.unheld or self.good:
            return []
        self._kept = (self._received.whole, self.manifest)
        return [Keep(self._received.kept())]


def _introduced(session: Session) -> bool:
    """Whether Envoy has said which resources it has; it begins with clusters and listeners."""
    return session.asked_for(CLUSTER) and session.asked_for(LISTENER)


def _named(cause: protocol.Event, commands: Sequence[protocol.Command]) -> list[Key]:
    """The resources of which an event of Envoy's stream, or what followed from it, says something."""
    named: dict[Key, None] = {}
    if isinstance(cause, Subscribe):
        for name in (*cause.names, *cause.unsubscribe, *cause.initial_versions):
            named[cause.type_url, name] = None
    for command in commands:
        match command:
            case Held(type_url, versions):
                named |= dict.fromkeys((type_url, name) for name in versions)
            case Rejected(refusal):
                named[refusal.type_url, refusal.name] = None
            case _:
                pass
    return list(named)


def _by_type(keys: Iterable[Key]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for type_url, name in keys:
        names.setdefault(type_url, []).append(name)
    return names
