"""Keeps a node's certificates fresh: asks for what is missing, renews each at its half-life, serves them to Envoy.

A control plane that is away is asked again and again; what is there stays in use until its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from septum.envoy.secret import svid
from septum.identity.pem import CertificateError
from septum.identity.renewal import renew_at
from septum.model.snapshot import Resource
from septum.node.credentials import NODE, Credential, Credentials, request
from septum.rpc.client import ControlRefuses, ControlUnavailable
from septum.rpc.messages import Certificate, Renew, Sign, Signed

_log = structlog.get_logger("septum.certifier")
_LOOK, _AGAIN = 1.0, 5.0  # seconds


class Signer(Protocol):
    """Who signs: the control plane, over whatever channel there is now."""

    async def sign(self, request: Renew | Sign) -> Signed:
        """A certificate. Raises ControlUnavailable or ControlRefuses."""
        ...


class Certifier:
    """Owns the credentials of a node. `serve` is called with all secrets whenever one changed."""

    def __init__(
        self,
        credentials: Credentials,
        signer: Signer,
        serve: Callable[[Mapping[str, Resource]], None],
        clock: Callable[[], float],
        *,
        member: bool,
    ) -> None:
        self._credentials, self._signer, self._serve, self._clock = credentials, signer, serve, clock
        self._wanted: tuple[str, ...] = (NODE,) if member else ()
        self._workloads: tuple[str, ...] = ()
        self._held: dict[str, Credential] = {}
        self._due: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._unkept: dict[str, str] = {}
        self._retry: dict[str, float] = {}
        self._issuer = ""
        self._changed = asyncio.Event()

    def want(self, workloads: Iterable[str]) -> None:
        """The workloads whose certificates the node must have from now on."""
        wanted = tuple(sorted(workloads))
        if wanted != self._workloads:
            self._workloads = wanted
            self._changed.set()

    def expect_issuer(self, issuer: str) -> None:
        """Who signs now: certificates of another one are renewed at once."""
        if issuer != self._issuer:
            self._issuer = issuer
            self._changed.set()

    def certificates(self) -> tuple[Certificate, ...]:
        """What the node has, and until when."""
        return tuple(Certificate(c.leaf.uri, c.leaf.not_after, c.leaf.issuer) for c in self._held.values())

    def troubles(self) -> tuple[str, ...]:
        """What is not as it should be, in words."""
        now = self._clock()
        held = self._held.items()
        ended = [f"the certificate of {_called(name)} has ended" for name, c in held if c.leaf.not_after < now]
        early = [
            f"the certificate of {_called(name)} is not valid yet: is a clock wrong?"
            for name, c in held
            if c.leaf.not_before > now
        ]
        unkept = (f"the certificate of {_called(name)} cannot be kept: {why}" for name, why in self._unkept.items())
        refused = (f"no certificate for {_called(name)}: {why}" for name, why in self._refused.items())
        return (*ended, *early, *refused, *unkept)

    async def run(self) -> None:
        """Keep certificates fresh until cancelled."""
        while True:
            # What is on disk is served before anybody is asked: a control plane that is away may take its time.
            if self._take_up():
                self._serve(self._secrets())
            if await self._renew_due():
                self._serve(self._secrets())
            self._changed.clear()
            try:
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _take_up(self) -> bool:
        """Have what is wanted of what was kept, and nothing else; whether what Envoy should have has changed."""
        names = (*self._wanted, *self._workloads)
        changed = self._drop_all_but(names)
        for name in names:
            if name not in self._held and (kept := self._credentials.of(name)) is not None:
                self._take(name, kept)
                changed = True
        return changed

    def _drop_all_but(self, names: Iterable[str]) -> bool:
        """Let go of what the node does not front any more; whether there was something that Envoy has."""
        gone = self._held.keys() - set(names)
        accounts: tuple[dict[str, Any], ...] = (self._held, self._refused, self._unkept, self._retry)
        for account in accounts:
            for name in account.keys() - set(names):
                del account[name]
        if gone:
            with contextlib.suppress(OSError):
                self._credentials.forget_all_but(names)
        return bool(gone)

    async def _renew_due(self) -> bool:
        """Ask for what is due; whether what Envoy should have has changed."""
        names = (*self._wanted, *self._workloads)
        return any([await self._renew(name) for name in names if self._is_due(name)])

    def _is_due(self, name: str) -> bool:
        now, held = self._clock(), self._held.get(name)
        if now < self._retry.get(name, 0.0):
            return False
        other = held is not None and self._issuer not in ("", held.leaf.issuer)
        return held is None or other or now >= self._due[name] or now < held.leaf.not_before

    async def _renew(self, name: str) -> bool:
        key, csr = request()
        try:
            signed = await self._signer.sign(Renew(csr) if name == NODE else Sign(name, csr))
            credential = Credential.of(signed.chain, key)
        except (ControlUnavailable, ControlRefuses, CertificateError) as error:
            self._note_refusal(name, str(error))
            return False
        self._refused.pop(name, None)
        # Of a signer whose clock is ahead: another one is asked for, and not at once.
        early = credential.leaf.not_before > self._clock()
        self._retry[name] = self._clock() + _AGAIN if early else 0.0
        self._take(name, credential)
        self._keep(name, credential, signed.roots)
        return True

    def _keep(self, name: str, credential: Credential, roots: bytes) -> None:
        """For the next start. A full disk takes nothing away from what is in use."""
        try:
            self._credentials.set_roots(roots)
            self._credentials.keep(name, credential)
        except OSError as error:
            _log.error("a certificate is in use and cannot be kept for the next start", name=name, reason=str(error))
            self._unkept[name] = str(error)
        else:
            self._unkept.pop(name, None)

    def _note_refusal(self, name: str, why: str) -> None:
        if self._refused.get(name) != why:
            _log.error("a certificate was not issued", name=name, reason=why)
        self._refused[name] = why
        self._retry[name] = self._clock() + (_AGAIN if name in self._held else _LOOK)

    def _take(self, name: str, credential: Credential) -> None:
        leaf = credential.leaf
        self._held[name] = credential
        # Jitter keeps the nodes of a mesh from asking all at once; it guards nothing.
        self._due[name] = renew_at(leaf.not_before, leaf.not_after, random.random())  # noqa: S311

    def _secrets(self) -> dict[str, Resource]:
        workloads = (self._held.get(name) for name in self._workloads)
        return {c.leaf.uri: svid(c.leaf.uri, c.chain, c.key) for c in workloads if c is not None}


def _called(name: str) -> str:
    return "the node" if name == NODE else name
