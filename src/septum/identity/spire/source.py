"""The stream of SVIDs from a Workload API: kept open, opened again when it ends, and what it gave last is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc

from septum.identity.spire.address import WorkloadApiError, socket_path, why_away
from septum.identity.spire.answer import AnswerError, Update, read
from septum.identity.spire.messages import FETCH_X509_SVID, SECURITY_HEADER

_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    # Each attempt connects anew: the pause between attempts is ours, and not a channel's back-off on top of it.
    ("grpc.use_local_subchannel_pool", 1),
    # No keepalive pings: on a Unix socket the kernel tells of an end, and SPIRE's server takes frequent pings amiss.
)
_NEVER = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. `pauses`: between attempts, growing. `answer`: until the first answer, which SPIRE gives at once.

    `denied`: how long SPIRE has to go on saying that this process has no identity until those it gave are not used any
    more. An agent that has just started may say so for a moment.
    """

    pauses: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    answer: float = 15.0
    denied: float = 30.0


class WorkloadApi:
    """What SPIRE gives to this process. `address` is `unix:///path`; empty means SPIFFE_ENDPOINT_SOCKET.

    `tell` hears of each trouble once, and of its end as "". Raises WorkloadApiError for an address that is none.
    """

    def __init__(self, address: str, tell: Callable[[str], None], pace: Pace | None = None) -> None:
        self.path = socket_path(address)
        self.trouble = ""
        self._tell = tell
        self._pace = pace or Pace()
        self._last: Update | None = None
        self._failures = 0
        self._denied_since: float | None = None

    async def updates(self) -> AsyncIterator[Update]:
        """Yield what is given now, and from then on each change of it; an unchanged answer yields nothing.

        When SPIRE is away, or gives what cannot be used, the last Update stands. When SPIRE goes on saying that there
        is no identity for this process, an Update without SVIDs follows. Raises WorkloadApiError.
        """
        while True:
            try:
                async for update in self._stream():
                    yield update
                self._trouble(f"the Workload API on {self.path} ended its stream")
            except TimeoutError:
                self._trouble(why_away(self.path))
            except grpc.aio.AioRpcError as error:
                if last := self._failed(error.code(), error.details() or ""):
                    yield last
            await asyncio.sleep(self._pause())

    async def _stream(self) -> AsyncIterator[Update]:
        """The changes that one call brings. Raises AioRpcError, and TimeoutError when no answer comes at all."""
        async with grpc.aio.insecure_channel(f"unix:{self.path}", options=_OPTIONS) as channel:
            fetch: Any = channel.unary_stream(FETCH_X509_SVID)  # without serialisers messages are bytes
            call = fetch(b"", metadata=(SECURITY_HEADER,))
            async with asyncio.timeout(self._pace.answer):
                answer = await call.read()
            while answer is not grpc.aio.EOF:
                if update := self._answered(answer):
                    yield update
                answer = await call.read()

    def _answered(self, answer: bytes) -> Update | None:
        """The Update in an answer, when it is another one than before."""
        self._failures, self._denied_since = 0, None
        try:
            update = read(answer)
        except AnswerError as error:
            self._trouble(f"an answer of the Workload API on {self.path} is not used: {error}")
            return None
        self._trouble("")
        return self._changed(update)

    def _failed(self, code: Any, said: str) -> Update | None:
        """Note why a call ended; the Update that follows from it, if any does. Raises WorkloadApiError."""
        if code in _NEVER:
            text = f"what listens on {self.path} is not a SPIFFE Workload API for X.509-SVIDs ({code.name}: {said})"
            raise WorkloadApiError(f"{text}: name the socket of the SPIRE agent")
        if code is not grpc.StatusCode.PERMISSION_DENIED:
            away = code is grpc.StatusCode.UNAVAILABLE
            self._denied_since = None
            self._trouble(why_away(self.path, said) if away else f"{self.path}: {code.name}: {said}")
            return None
        self._trouble(
            f"SPIRE has no identity for this process ({said}): register the node's workloads with `spire-server entry"
            " create -spiffeID spiffe://TRUST_DOMAIN/WORKLOAD` and selectors that match the process of the Septum agent"
        )
        return self._denied()

    def _denied(self) -> Update | None:
        now = asyncio.get_running_loop().time()
        self._denied_since = now if self._denied_since is None else self._denied_since
        if self._last is None or now - self._denied_since < self._pace.denied:
            return None
        return self._changed(replace(self._last, svids={}))

    def _changed(self, update: Update) -> Update | None:
        if update == self._last:
            return None
        self._last = update
        return update

    def _trouble(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._tell(text)

    def _pause(self) -> float:
        pause = self._pace.pauses[min(self._failures, len(self._pace.pauses) - 1)]
        self._failures += 1
        return pause
