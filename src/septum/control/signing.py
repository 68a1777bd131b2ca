"""Who stored a version: an Ed25519 signature over all that a version says, by a key that stays with the control plane.

It shows what was changed in the state by whoever does not have the key. Who can read the whole state directory has it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from septum.control.state import End, Signature, StateError, Version
from septum.identity.directory import Directory, OpenToOthersError
from septum.identity.pem import UNREADABLE

DIRECTORY = "signing"
FORMAT = 1
_KEY, _UNSIGNED, _PUBLIC = "key", "unsigned", ".pub"
_FINGERPRINT = re.compile("[0-9a-f]{16}")


class Standing(StrEnum):
    """What a signature is worth. UNSIGNED is a version from before there were signatures."""

    GOOD = "good"
    BAD = "bad"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version is what was stored, by which key that is known, and if it is not, why."""

    standing: Standing
    signer: str = ""
    why: str = ""


class BadSignature(Exception):
    """A version that is not what was stored; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that versions are or were signed with; `current` is the one that signs now."""

    fingerprint: str
    path: Path
    current: bool


class Signatures:
    """Tells whether versions are what was stored, by the public keys in a state directory; from any process."""

    def __init__(self, state: Path) -> None:
        self.directory = state / DIRECTORY
        self._keys: dict[str, Ed25519PublicKey | None] = {}

    def verdict(self, version: Version) -> Verdict:
        """What the signatures of a version, and of what was said of it later, are worth."""
        found = self._of(version.signature, statement(version), version.number)
        if found.standing is Standing.BAD or version.end is None:
            return found
        ended = self._of(version.end.signature, end_statement(version, version.end), version.number)
        return found if ended.standing is Standing.GOOD else replace(ended, standing=Standing.BAD)

    def expect(self, version: Version) -> None:
        """Raise BadSignature unless a version is what was stored."""
        found = self.verdict(version)
        if found.standing is Standing.BAD:
            name = f"version {version.number} ({version.digest[:12]})"
            raise BadSignature(f"{name} is not what was stored, and is not used: {found.why}")

    def keys(self) -> list[PublicKey]:
        """The keys that are known."""
        current = _fingerprint_of(self.directory / _KEY)
        paths = sorted(self.directory.glob(f"*{_PUBLIC}"))
        return [PublicKey(path.stem, path, path.stem == current) for path in paths]

    def _of(self, signature: Signature | None, said: bytes, number: int) -> Verdict:
        if signature is None:
            last = self._last_unsigned()
            if number <= last:
                return Verdict(Standing.UNSIGNED)
            return Verdict(Standing.BAD, why="it is not signed, and every version after its time is")
        key = self._key(signature.signer)
        if key is None:
            return Verdict(Standing.BAD, signature.signer, f"the key {signature.signer or '?'} is not known here")
        try:
            key.verify(bytes.fromhex(signature.value), said)
        except (InvalidSignature, ValueError):
            why = f"the key {signature.signer} has not signed what stands there"
            return Verdict(Standing.BAD, signature.signer, why)
        return Verdict(Standing.GOOD, signature.signer)

    def _key(self, fingerprint: str) -> Ed25519PublicKey | None:
        if fingerprint not in self._keys:
            self._keys[fingerprint] = _public(self.directory / f"{fingerprint}{_PUBLIC}", fingerprint)
        return self._keys[fingerprint]

    def _last_unsigned(self) -> int:
        try:
            return int((self.directory / _UNSIGNED).read_text())
        except (OSError, ValueError):
            return 0


class Signer(Signatures):
    """The one that signs: the control plane. Its key is made the first time, and again when it is gone.

    The public keys of earlier ones stay, so that what they signed is still known. Raises StateError for a directory or
    a key that cannot be used. `stored` is the number of the last version that there is.
    """

    def __init__(self, state: Path, stored: int) -> None:
        super().__init__(state)
        directory = Directory(self.directory)
        try:
            self._private = _opened(directory, stored)
        except (OSError, OpenToOthersError, *UNREADABLE) as error:
            help = "a new one is made when there is none; what the old one signed stays known by its public key"
            raise StateError(f"the key that signs versions cannot be used: {error} ({help})") from error
        self.fingerprint = fingerprint(self._private.public_key())

    def signed(self, version: Version) -> Version:
        """The version with its signature, and with that of its end if it has one."""
        made = replace(version, signature=self._sign(statement(version)))
        return replace(made, end=self.signed_end(made, made.end)) if made.end else made

    def signed_end(self, version: Version, end: End) -> End:
        """What became of a version, with its signature."""
        return replace(end, signature=self._sign(end_statement(version, end)))

    def _sign(self, said: bytes) -> Signature:
        return Signature(self.fingerprint, self._private.sign(said).hex())


def statement(version: Version) -> bytes:
    """All that a version says, as canonical JSON: sorted keys, no spaces, ASCII."""
    files = {path: hashlib.sha256(content).hexdigest() for path, content in version.files.items()}
    return _canonical(
        "version",
        number=version.number,
        digest=version.digest,
        previous=version.previous,
        files=files,
        slices=hashlib.sha256(_canonical("slices", of=dict(version.slices))).hexdigest(),
        quarantined=sorted(version.quarantined),
        author=version.author,
        message=version.message,
        commit=version.commit,
        applied=float(version.applied),
        restores=version.restores,
        confirm_by=None if version.confirm_by is None else float(version.confirm_by),
        falls_back=version.falls_back,
    )


def end_statement(version: Version, end: End) -> bytes:
    """What was said of a version later, as canonical JSON."""
    said = {"fate": str(end.fate), "at": float(end.at), "why": end.why}
    return _canonical("end", number=version.number, digest=version.digest, **said)


def _canonical(what: str, **said: Any) -> bytes:
    # What a statement is about stands in it, so that one cannot be shown in the place of another.
    return json.dumps({"septum": what, "format": FORMAT, **said}, sort_keys=True, separators=(",", ":")).encode()


def fingerprint(key: Ed25519PublicKey) -> str:
    """16 hex digits of the SHA-256 of a public key (SubjectPublicKeyInfo, DER)."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def _opened(directory: Directory, stored: int) -> Ed25519PrivateKey:
    """The key, made when there is none; which versions have no signature is said once, with the first key."""
    directory.make()
    if not directory.has(_UNSIGNED):
        directory.write(_UNSIGNED, b"%d\n" % stored)
    if not directory.has(_KEY):
        directory.write(_KEY, _private_pem(Ed25519PrivateKey.generate()))
    key = _read_private(directory.read_key(_KEY))
    name = fingerprint(key.public_key()) + _PUBLIC
    if not directory.has(name):
        pem, spki = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        directory.write(name, key.public_key().public_bytes(pem, spki))
    return key


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, pkcs8, serialization.NoEncryption())


def _read_private(pem: bytes) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is no Ed25519 key")
    return key


def _public(path: Path, name: str) -> Ed25519PublicKey | None:
    """A public key by its name, or None; a file that has another key than it is called after has none."""
    if not _FINGERPRINT.fullmatch(name):
        return None
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, *UNREADABLE):
        return None
    return key if isinstance(key, Ed25519PublicKey) and fingerprint(key) == name else None


def _fingerprint_of(path: Path) -> str:
    """The fingerprint of the key that signs, or nothing where it cannot be read."""
    try:
        return fingerprint(_read_private(path.read_bytes()).public_key())
    except (OSError, *UNREADABLE):
        return ""
