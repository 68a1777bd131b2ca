"""`issuers` and `external` of `septum.yaml`: who signs end users' tokens, and the places outside that may be called."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Generic, TypeVar

from septum.model.diagnostic import Diagnostic, Span
from septum.model.mesh import Address, External, Issuer, Mode, Protocol
from septum.policy import named_files
from septum.policy.clashes import every_host, is_loopback, never_outside
from septum.policy.codes import MISSING_KEY, PROTOCOL, WRONG_VALUE
from septum.policy.fit import nearest
from septum.policy.named_files import Files
from septum.policy.names import not_a_name, repeated, reserved_name
from septum.policy.source import Mapping, Node, Scalar, child, children, word, words

T = TypeVar("T")

# RFC 1123, section 2.1, in lower case. A last label of digits makes it an address, or a slip in one.
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?![0-9]+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[^\s/?#\[\]@:\\]+)(?::([0-9]{1,5}))?(?:[/?][!-\"$-~]*)?")
_PROTOCOLS = ("http", "tls", "tcp")


@dataclass
class Section(Generic[T]):
    """One section of the mesh file: what it lists, by name, and what is wrong with it."""

    files: Files
    found: dict[str, T] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def add(self, code: str, message: str, span: Span, help: str = "") -> None:
        """Say what is wrong."""
        self.diagnostics.append(Diagnostic(code, message, span, help=help))

    def file(self, content: str | Diagnostic) -> str:
        """The content of a file that a setting names; empty where something is wrong with it."""
        if isinstance(content, str):
            return content
        self.diagnostics.append(content)
        return ""


def read_issuers(root: Mapping, files: Files) -> Section[Issuer]:
    """Who signs end users' tokens."""
    section: Section[Issuer] = Section(files)
    for key, node in children(root, "issuers"):
        section.diagnostics += not_a_name(key)
        audiences = words(child(node, "audiences"))
        section.diagnostics += repeated(audiences, lambda one: one.text)
        keys = child(node, "jwks")
        url = isinstance(keys, Scalar) and "://" in keys.text
        section.found[key.text] = Issuer(
            name=key.text,
            issuer=word(child(node, "issuer")),
            audiences=tuple(dict.fromkeys(one.text for one in audiences)),
            jwks=_key_set(section, keys) if not url else "",
            jwks_url=_url(section, keys) if url else "",
            span=key.span,
        )
    return section


def _key_set(section: Section[Issuer], node: Node | None) -> str:
    if not isinstance(node, Scalar) or not node.text:
        return ""
    return section.file(named_files.key_set(node, section.files))


def _url(section: Section[Issuer], node: Node | None) -> str:
    """Where keys are fetched, over a connection that nobody can change them on."""
    match = _URL.fullmatch(word(node))
    if node is None or match is None or not _is_host(match[2].strip("[]")) or not 0 < int(match[3] or 1) < 65536:
        if node is not None:
            section.add(WRONG_VALUE, "this is not the URL of a key set", node.span, "such as https://login.test/jwks")
        return ""
    if match[1] == "http" and not _is_here(match[2].strip("[]")):
        help = "write https://; plain http:// is for loopback addresses alone"
        section.add(WRONG_VALUE, "keys that come in plain text could be anybody's", node.span, help)
    return match[0]


def _is_host(text: str) -> bool:
    return _ip(text) is not None or _DNS_NAME.fullmatch(text.lower()) is not None


def _is_here(host: str) -> bool:
    return host == "localhost" or (_ip(host) is not None and is_loopback(host))


def _ip(text: str) -> str | None:
    """An IP address in its canonical form, or None. A zone (`fe80::1%eth0`) means something on one host alone."""
    try:
        return None if "%" in text else str(ip_address(text))
    except ValueError:
        return None


def read_external(root: Mapping, files: Files) -> Section[External]:
    """The places outside that rules may open."""
    section: Section[External] = Section(files)
    for key, node in children(root, "external"):
        section.diagnostics += (*not_a_name(key), *reserved_name("place outside", key))
        section.found[key.text] = _place(section, key, node)
    return section


def _place(section: Section[External], key: Scalar, node: Node) -> External:
    protocol = nearest(word(child(node, "protocol")), _PROTOCOLS) or "http"
    originate = _originate_tls(section, node, protocol)
    return External(
        name=key.text,
        host=_host(section, child(node, "host"), protocol),
        port=_port(section, key, node, protocol, originate),
        protocol=Protocol.HTTP if protocol == "http" else Protocol.TCP,
        sni=protocol == "tls",
        originate_tls=originate,
        ca=_ca(section, child(node, "ca"), originate),
        mode=Mode.OBSERVE if word(child(node, "mode")) == Mode.OBSERVE else Mode.ENFORCE,
        span=key.span,
    )


def _host(section: Section[External], node: Node | None, protocol: str) -> str:
    if not isinstance(node, Scalar) or not node.text:
        return ""
    address = _ip(node.text)
    if address is None:
        if not _DNS_NAME.fullmatch(node.text):
            lower = node.text.lower()
            help = f"write `{lower}`" if _DNS_NAME.fullmatch(lower) else "such as api.partner.test or 192.0.2.7"
            section.add(WRONG_VALUE, f"`{node.text}` is not a host: a DNS name or an IP address", node.span, help)
        elif f".{node.text}".endswith(".localhost"):  # RFC 6761, section 6.3
            _not_outside(section, node)
        return node.text
    if every_host(Address(address, 1)):
        section.add(WRONG_VALUE, "a place outside is at one address", node.span, "write the address, or a DNS name")
    elif never_outside(address):
        _not_outside(section, node)
    elif protocol == "tls":
        message = "a TLS session says a name, and never an address"
        section.add(PROTOCOL, message, node.span, "write the DNS name, or `protocol: tcp`")
    return address


def _not_outside(section: Section[External], node: Scalar) -> None:
    """Each host means another place by it: its own, with the listeners of all workloads, or its link, with metadata."""
    help = "list what is there as a workload, or write the DNS name or the address that networks know it by"
    section.add(WRONG_VALUE, f"`{node.text}` is on each node's own host or link, and not outside", node.span, help)


def _port(section: Section[External], key: Scalar, node: Node, protocol: str, originate: bool) -> int:
    written = word(child(node, "port"))
    if written.isascii() and written.isdigit() and len(written) < 6:
        return int(written)
    if protocol == "tcp" and child(node, "port") is None:
        help = "80 goes without saying for http, and 443 for TLS"
        section.add(MISSING_KEY, f"`{key.text}` has no `port`", key.span, help)
    return 80 if protocol == "http" and not originate else 443


def _originate_tls(section: Section[External], node: Node, protocol: str) -> bool:
    value = child(node, "originate_tls")
    if value is not None and protocol != "http":
        message = f"`originate_tls` means nothing where callers speak {protocol}"
        section.add(PROTOCOL, message, value.span, "leave it out; with `protocol: http` the proxy speaks TLS for them")
    return word(value) == "true" and protocol == "http"


def _ca(section: Section[External], node: Node | None, originate: bool) -> str:
    if not isinstance(node, Scalar) or not node.text:
        return ""
    if not originate:
        message = "nobody checks a certificate here: the proxy does not speak TLS to it"
        section.add(WRONG_VALUE, message, node.span, "add `originate_tls: true`, or leave `ca` out")
    return section.file(named_files.certificates(node, section.files))
