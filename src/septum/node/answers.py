"""The control plane's responses that await an answer, and what is known of the resources in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from septum.model.snapshot import MANIFEST
from septum.xds.protocol import Ack, Defer, Nack, Send
from septum.xds.types import Key, Refusal


@dataclass(slots=True)
class Response:
    """One response. `versions` is None for a removal; `open` are the names of which the outcome is not known."""

    type_url: str
    nonce: str
    versions: Mapping[str, str | None]
    open: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)

    def note(self, name: str, outcome: bool | Refusal) -> None:
        """Take note of what is known of a resource: that it is held, nothing, or that it is refused."""
        self.drop(name)
        if outcome is False:
            self.open.add(name)
        elif isinstance(outcome, Refusal):
            self.refused[name] = outcome.reason

    def defer(self, name: str) -> None:
        """Envoy cannot have it for now."""
        self.drop(name)
        self.deferred.add(name)

    def drop(self, name: str) -> None:
        """Nothing has to be known of it, because it is held or because something newer counts in its place."""
        self.open.discard(name)
        self.deferred.discard(name)
        self.refused.pop(name, None)

    def answer(self) -> Ack | Nack | Defer:
        """The answer to it. Whoever sent several resources at once is told which ones are meant."""
        if not self.refused:
            return (Defer if self.deferred else Ack)(self.type_url, self.nonce)
        kind = self.type_url.rpartition(".")[2]
        reasons = [why if self.alone else f"{kind} {name}: {why}" for name, why in sorted(self.refused.items())]
        return Nack(self.type_url, self.nonce, "; ".join(reasons))

    @property
    def alone(self) -> bool:
        """Whether a refusal of it can only be about one resource."""
        return len(self.versions) == 1 or sum(version is not None for version in self.versions.values()) == 1


class Answers:
    """The responses in the order they came.

    Invariant: a name's outcome is looked for in the newest response that has it, and no response is answered before an
    older one that has a name in common with it; so the newest is also the last that is answered.
    """

    def __init__(self) -> None:
        self._responses: dict[str, Response] = {}
        self._named: dict[Key, list[str]] = {}

    def __contains__(self, response: Response) -> bool:
        return response.nonce in self._responses

    def count(self) -> int:
        """How many there are."""
        return len(self._responses)

    def add(self, send: Send) -> Response:
        """A response came."""
        versions = {made.name: made.version for made in send.resources} | dict.fromkeys(send.removed)
        response = Response(send.type_url, send.nonce, versions, set(versions))
        self._responses[send.nonce] = response
        for name in versions:
            nonces = self._named.setdefault((send.type_url, name), [])
            if nonces:
                self._responses[nonces[-1]].drop(name)
            nonces.append(send.nonce)
        return response

    def all(self) -> Iterator[Response]:
        """What awaits an answer and is no manifest, the oldest first."""
        yield from [response for response in self._responses.values() if response.type_url != MANIFEST]

    def manifests(self) -> list[Response]:
        """The manifests that await an answer."""
        return [response for response in self._responses.values() if response.type_url == MANIFEST]

    def none(self) -> bool:
        """Whether nothing but manifests awaits an answer."""
        return all(response.type_url == MANIFEST for response in self._responses.values())

    def newest(self, key: Key) -> Response | None:
        """The newest response that has this name."""
        nonces = self._named.get(key)
        return self._responses[nonces[-1]] if nonces else None

    def first(self, response: Response) -> bool:
        """Whether nothing has to be answered before it."""
        return all(self._named[response.type_url, name][0] == response.nonce for name in response.versions)

    def newest_names(self, response: Response) -> list[str]:
        """The names of a response that no newer one has."""
        return [n for n in response.versions if self._named[response.type_url, n][-1] == response.nonce]

    def remove(self, response: Response) -> list[Response]:
        """It was answered; the responses that may have waited for that."""
        del self._responses[response.nonce]
        waiting: dict[str, Response] = {}
        for name in response.versions:
            key = (response.type_url, name)
            self._named[key].remove(response.nonce)
            if nonces := self._named[key]:
                waiting[nonces[0]] = self._responses[nonces[0]]
            else:
                del self._named[key]
        return list(waiting.values())
