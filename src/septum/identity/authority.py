"""The authority of a trust domain: it certifies identities, says what is trusted, revokes, and rotates its own keys.

Its root signs intermediates, the intermediate everything else; the root's key can be kept elsewhere. Each change is one
replaced file (`ledger.py`), so a crash leaves it done or not done, and doing it again finishes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from septum.identity import ledger as ledgers
from septum.identity import templates
from septum.identity.csr import csr, new_key, requested_key
from septum.identity.directory import LEDGER, Directory, OpenToOthersError
from septum.identity.issuer import Issued, Issuer, Upstream, below_upstream, fingerprint, is_root
from septum.identity.leaf import find
from septum.identity.ledger import Ledger, Line, Origin, Stage, What
from septum.identity.names import ControlId, Identity, WorkloadId
from septum.identity.pem import (
    CertificateError,
    SigningKey,
    WrongPassphraseError,
    belongs,
    certificates_pem,
    is_encrypted,
    key_pem,
    read_certificates,
    read_key,
)
from septum.identity.spiffe_bundle import spiffe_bundle
from septum.identity.standing import KeyPlace, Part, Standing, Use
from septum.identity.verify import verify
from septum.model.spiffe import SpiffeId

# What a URI name constraint can hold (RFC 5280, section 4.2.1.10): a host name, and no leading dot, which would mean
# "any name below".
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
# No mesh's workload is shown this certificate: it tells whether an upstream PKI permits what will be issued.
_TRIAL = "trial"


class AuthorityError(Exception):
    """The authority cannot do this; the text says why and what to do."""


class NoAuthorityError(AuthorityError):
    """There is no authority in the directory."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is trusted now: roots and lists of revoked certificates (PEM), and the roots in SPIFFE's form (JSON).

    There is a list for each issuer, empty or not: with lists, Envoy refuses certificates of an issuer that has none, so
    those of an intermediate that was retired are refused as well.
    """

    roots_pem: bytes
    crl_pem: bytes
    spiffe_json: str


@dataclass(frozen=True, slots=True)
class _Held:
    ledger: Ledger
    issuers: tuple[Issuer, ...]

    @property
    def roots(self) -> dict[bytes, x509.Certificate]:
        """Every root by its DER, each once."""
        found = (root for issuer in self.issuers for root in issuer.roots)
        return {root.public_bytes(serialization.Encoding.DER): root for root in found}


class Authority:
    """The authority that a directory holds. One process changes it at a time; reading it takes no lock."""

    def __init__(self, directory: Directory, held: _Held) -> None:
        self._directory = directory
        self._held = held
        self._bundle: tuple[object, Bundle] | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        trust_domain: str,
        now: float,
        *,
        passphrase: bytes | None = None,
        upstream: Upstream | None = None,
    ) -> Authority:
        """A new authority: under a root of its own (its key encrypted if there is a passphrase), or under an upstream.

        Raises AuthorityError when there is one, or the upstream does not permit it.
        """
        if not _HOST.fullmatch(trust_domain):
            raise AuthorityError(f"the trust domain `{trust_domain}` is no host name, such as shop.example")
        directory = Directory(path)
        with _translated(directory):
            directory.make()
            with directory.locked():
                if directory.has(LEDGER):
                    raise AuthorityError(f"there is an authority in {path} already: `septum ca show`")
                line = _new_line(directory, trust_domain, now, passphrase, upstream)
                _commit(directory, Ledger(trust_domain, line))
        return cls.open(path, trust_domain)

    @classmethod
    def open(cls, path: Path, trust_domain: str) -> Authority:
        """The authority of a directory. Raises NoAuthorityError, or AuthorityError when it cannot be used."""
        directory = Directory(path)
        with _translated(directory):
            held = _load(directory)
        if held.ledger.trust_domain != trust_domain:
            raise AuthorityError(
                f"the authority in {path} is that of `{held.ledger.trust_domain}`, and the mesh says `{trust_domain}`: "
                f"move {path} away to make a new one; every node joins again then"
            )
        return cls(directory, held)

    @property
    def trust_domain(self) -> str:
        """The trust domain that it is the authority of."""
        return self._held.ledger.trust_domain

    @property
    def stage(self) -> Stage:
        """Where a rotation stands."""
        return self._held.ledger.stage

    @property
    def what(self) -> What:
        """What the rotation that `stage` tells of replaces."""
        return self._held.ledger.what

    @property
    def issuer(self) -> str:
        """The key id (hex) of the certificate that signs now; `Leaf.issuer` of another one says: renew."""
        return self._held.issuers[0].key_id

    @property
    def revoked(self) -> frozenset[int]:
        """The serial numbers that are refused."""
        return frozenset(int(serial, 16) for serial in self._held.ledger.revoked)

    def issue(
        self, csr_der: bytes, identity: Identity, lifetime: float, now: float, hosts: Sequence[str] = ()
    ) -> Issued:
        """Certify an identity for the key of a request; of the request nothing else counts.

        `hosts` are the names and addresses under which the control plane is called, and nobody else has any. Raises
        CertificateError for a request that is not acceptable, AuthorityError when the authority itself has ended.
        """
        if identity.trust_domain != self.trust_domain or (hosts and not isinstance(identity, ControlId)):
            raise ValueError(f"not for this authority to certify: {identity.uri} {' '.join(hosts)}")
        key, issuer = requested_key(csr_der), self._held.issuers[0]
        if issuer.end <= now:
            raise AuthorityError("the issuing certificate has ended: `septum ca show` says which, and what to do")
        return issuer.issue(key, identity, hosts, lifetime, now)

    def verify(self, chain_pem: bytes, now: float) -> Identity:
        """The identity that a peer's chain, or its leaf alone, proves to this authority. Raises CertificateError.

        As Envoy does with the lists of a bundle, it refuses what is revoked, and what a retired issuer has issued.
        """
        held = self._held
        issuers = frozenset(issuer.key_id for issuer in held.issuers)
        # gRPC tells a server the leaf without what is above it.
        above = [certificate for issuer in held.issuers for certificate in issuer.certificates]
        whole = certificates_pem([*read_certificates(chain_pem), *above])
        return verify(whole, certificates_pem(held.roots.values()), now, self.trust_domain, self.revoked, issuers)

    def bundle(self, now: float) -> Bundle:
        """What is trusted now: the same bytes until that changes. Raises AuthorityError when no root is left."""
        held = self._held
        roots = [root for root in held.roots.values() if _lives(root, now)]
        issuers = [issuer for issuer in held.issuers if _lives(issuer.certificate, now)]
        if not roots:
            raise AuthorityError("every root has ended: `septum ca rotate`, and then every node joins again")
        made_of = (held.ledger, *roots, *issuers)
        if self._bundle is None or self._bundle[0] != made_of:
            self._bundle = (made_of, _bundle(held.ledger, roots, issuers))
        return self._bundle[1]

    def revoke(self, serials: Mapping[int, float], now: float) -> None:
        """Refuse certificates: serial number → when it ends anyway, after which it is forgotten."""
        self._change(lambda ledger: ledger.with_revoked(serials, now))

    def prepare(
        self,
        what: What,
        now: float,
        *,
        root_key: bytes | None = None,
        passphrase: bytes | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        """Make the next root with its intermediate, or the next intermediate, and trust it beside the one in use.

        A new intermediate needs the key of who signs it: `root_key` (PEM) where it is not here, with the passphrase. A
        new root's key is encrypted with the passphrase. `upstream` takes the place of a root.

        Done again, it does nothing.
        """

        def change(ledger: Ledger) -> Ledger:
            if ledger.stage is Stage.ACTIVATED:
                raise AuthorityError("the new one signs already: `septum ca rotate --step retire` comes first")
            if ledger.stage is Stage.PREPARED:
                if ledger.what is not what:
                    raise AuthorityError(f"a rotation of the {ledger.what} is under way: finish it first")
                return ledger
            line = self._next_line(what, now, root_key, passphrase, upstream)
            return ledger.prepared(what, line)

        self._change(change)

    def activate(self) -> None:
        """Sign with what was prepared. Done again, it does nothing."""

        def change(ledger: Ledger) -> Ledger:
            if ledger.stage is Stage.ACTIVATED:
                return ledger
            if ledger.stage is not Stage.PREPARED:
                raise AuthorityError("nothing is prepared: `septum ca rotate --step prepare` comes first")
            return ledger.activated()

        self._change(change)

    def retire(self) -> None:
        """Trust the new one alone, and remove the old keys. Done again, it does nothing."""

        def change(ledger: Ledger) -> Ledger:
            if ledger.stage is Stage.RETIRED:
                return ledger
            if ledger.stage is Stage.PREPARED:
                raise AuthorityError("the old one still signs: `septum ca rotate --step activate` comes first")
            if ledger.stage is not Stage.ACTIVATED:
                raise AuthorityError("no rotation is under way: `septum ca rotate --step prepare` begins one")
            return ledger.retired()

        self._change(change)

    def standing(self) -> Standing:
        """What there is, for `septum ca show`."""
        ledger = self._held.ledger
        other = Use.NEXT if ledger.stage is Stage.PREPARED else Use.PREVIOUS
        parts: dict[str, Part] = {}
        for line, issuer, use in zip(ledger.lines, self._held.issuers, (Use.SIGNS, other), strict=False):
            for certificate in issuer.certificates:
                part = self._part(line, issuer, certificate, use)
                parts.setdefault(part.id, part)
        return Standing(ledger.trust_domain, ledger.stage, ledger.what, tuple(parts.values()), len(ledger.revoked))

    def _part(self, line: Line, issuer: Issuer, certificate: x509.Certificate, use: Use) -> Part:
        id, subject = fingerprint(certificate), certificate.subject.rfc4514_string()
        role = What.INTERMEDIATE if certificate is issuer.certificate or not is_root(certificate) else What.ROOT
        name = _key_file(line.id) if certificate is issuer.certificate else _root_key_file(id)
        place = KeyPlace.ELSEWHERE
        with _translated(self._directory):
            if self._directory.has(name):
                place = KeyPlace.ENCRYPTED if is_encrypted(self._directory.read_key(name)) else KeyPlace.HERE
        starts, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        return Part(role, use, id, subject, starts, ends, place)

    def _change(self, change: Callable[[Ledger], Ledger]) -> None:
        """Carry out a change of the ledger, and remove what it no longer names. Others' changes are seen first."""
        with _translated(self._directory), self._directory.locked():
            self._held = _load(self._directory)
            _commit(self._directory, change(self._held.ledger))
            self._held = _load(self._directory)

    def _next_line(
        self, what: What, now: float, root_key: bytes | None, passphrase: bytes | None, upstream: Upstream | None
    ) -> Line:
        line, issuer = self._held.ledger.issuing, self._held.issuers[0]
        if what is What.ROOT:
            if upstream is None and line.origin is not Origin.OWN:
                raise AuthorityError(f"the root is another PKI's: give {_UPSTREAM_OPTIONS}")
            return _new_line(self._directory, self.trust_domain, now, passphrase, upstream)
        if upstream is not None:
            raise AuthorityError("another upstream comes with its own root: --what root")
        if line.origin is Origin.GIVEN:
            raise AuthorityError(f"the issuing certificate is another PKI's: --what root, with {_UPSTREAM_OPTIONS}")
        signer_key = self._signer_key(line, issuer, root_key, passphrase)
        key = _new_key()
        made = templates.intermediate(key, self.trust_domain, issuer.signer, signer_key, now)
        return _keep(
            self._directory, Issuer((made, *issuer.certificates[1:]), key), line.origin, self.trust_domain, now
        )

    def _signer_key(self, line: Line, issuer: Issuer, root_key: bytes | None, passphrase: bytes | None) -> SigningKey:
        """The key of who signs intermediates: as given, or as kept."""
        signer = issuer.signer.subject.rfc4514_string()
        kept = _root_key_file(line.root)
        if root_key is None:
            if line.origin is not Origin.OWN or not self._directory.has(kept):
                where = f" (it was made as {self._directory.path / kept})" if line.origin is Origin.OWN else ""
                raise AuthorityError(
                    f"a new intermediate is signed with the key of `{signer}`, which is not here{where}: "
                    "`septum ca rotate --what intermediate --root-key FILE`"
                )
            root_key = self._directory.read_key(kept)
        try:
            key = read_key(root_key, passphrase)
        except WrongPassphraseError as error:
            raise AuthorityError(f"the key of `{signer}`: {error}: --passphrase-file FILE") from error
        if not belongs(key, issuer.signer):
            raise AuthorityError(f"the key that was given is not that of `{signer}`")
        return key


_UPSTREAM_OPTIONS = "--upstream-cert FILE --upstream-key FILE"


def _chain_file(id: str) -> str:
    return f"intermediate-{id}.pem"


def _key_file(id: str) -> str:
    return f"intermediate-{id}.key"


def _root_key_file(root: str) -> str:
    return f"root-{root}.key"


def _load(directory: Directory) -> _Held:
    try:
        ledger = ledgers.read(directory.read(LEDGER))
    except FileNotFoundError as error:
        raise NoAuthorityError(f"there is no authority in {directory.path}: `septum ca init` makes one") from error
    except ValueError as error:
        raise AuthorityError(f"{directory.path / LEDGER} cannot be read: {error}: restore it from a backup") from error
    return _Held(ledger, tuple(_load_issuer(directory, line) for line in ledger.lines))


def _load_issuer(directory: Directory, line: Line) -> Issuer:
    certificates = read_certificates(directory.read(_chain_file(line.id)))
    key = read_key(directory.read_key(_key_file(line.id)))
    if not belongs(key, certificates[0]):
        raise CertificateError(f"{directory.path / _key_file(line.id)} is not the key of the certificate beside it")
    return Issuer(certificates, key)


def _commit(directory: Directory, ledger: Ledger) -> None:
    """The moment at which a change is made; what comes after it is only tidying."""
    data = ledgers.write(ledger)
    if not directory.has(LEDGER) or directory.read(LEDGER) != data:
        directory.write(LEDGER, data)
    kept = [(_chain_file(line.id), _key_file(line.id), _root_key_file(line.root)) for line in ledger.lines]
    directory.sweep([name for names in kept for name in names])


def _new_line(
    directory: Directory, trust_domain: str, now: float, passphrase: bytes | None, upstream: Upstream | None
) -> Line:
    """A new root with an intermediate, or an issuer below an upstream PKI, written into the directory."""
    if upstream is not None:
        issuer = below_upstream(upstream, trust_domain, _new_key(), now)
        given = issuer.certificate == read_certificates(upstream.chain_pem)[0]
        return _keep(directory, issuer, Origin.GIVEN if given else Origin.UPSTREAM, trust_domain, now)
    root_key, key = _new_key(), _new_key()
    root = templates.root(root_key, trust_domain, now)
    made = templates.intermediate(key, trust_domain, root, root_key, now)
    directory.write(_root_key_file(fingerprint(root)), key_pem(root_key, passphrase))
    return _keep(directory, Issuer((made, root), key), Origin.OWN, trust_domain, now)


def _keep(directory: Directory, issuer: Issuer, origin: Origin, trust_domain: str, now: float) -> Line:
    """Write an issuer's files, once what it issues has proved to be accepted."""
    usage = find(issuer.certificate, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise CertificateError("the issuing certificate may not sign lists of revoked certificates (key usage)")
    identity = WorkloadId(SpiffeId(trust_domain, _TRIAL))
    trial = issuer.issue(requested_key(csr(new_key())), identity, (), 3600.0, now)
    verify(trial.chain_pem, certificates_pem(issuer.roots), now, trust_domain)
    id = fingerprint(issuer.certificate)
    directory.write(_key_file(id), key_pem(issuer.key))
    directory.write(_chain_file(id), issuer.pem)
    return Line(id, origin, fingerprint(issuer.roots[0]))


def _bundle(ledger: Ledger, roots: Sequence[x509.Certificate], issuers: Sequence[Issuer]) -> Bundle:
    revoked = {int(serial, 16): entry.since for serial, entry in ledger.revoked.items()}
    crls = [issuer.crl(revoked, ledger.sequence) for issuer in issuers]
    return Bundle(
        certificates_pem(roots),
        b"".join(crl.public_bytes(serialization.Encoding.PEM) for crl in crls),
        spiffe_bundle(roots, ledger.sequence),
    )


def _lives(certificate: x509.Certificate, now: float) -> bool:
    return certificate.not_valid_after_utc.timestamp() > now


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@contextmanager
def _translated(directory: Directory) -> Iterator[None]:
    """Failures of the disk and of files on it, as this package tells them."""
    try:
        yield
    except (CertificateError, OpenToOthersError) as error:
        raise AuthorityError(str(error)) from error
    except OSError as error:
        raise AuthorityError(f"{error.filename or directory.path}: {error.strerror}") from error
