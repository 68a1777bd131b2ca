"""`septum.yaml` to a Mesh. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Address, Limits, Mesh, Mode, Node, Protocol, Segment, Target, Timeouts, Workload
from septum.model.operation import PathPattern, PatternError
from septum.policy import source
from septum.policy.clashes import (
    Listening,
    address_clashes,
    authority_clashes,
    every_host,
    name_clashes,
    on_this_host,
    unused,
)
from septum.policy.codes import (
    LANGUAGE,
    NOT_A_TARGET,
    NOT_PLACED,
    OPEN_IDENTITY,
    PLAIN_TEXT,
    PROTOCOL,
    REPEATED,
    WRONG_VALUE,
)
from septum.policy.fit import nearest
from septum.policy.named_files import Files
from septum.policy.names import RESERVED_NAMES, not_a_name, reserved_name, unknown_name
from septum.policy.outside import read_external, read_issuers
from septum.policy.source import Mapping as MappingNode
from septum.policy.source import Scalar, Sequence, child, children, key_span, part, word

__all__ = ["RESERVED_NAMES", "read_mesh"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9.]+)(ms|s|m|h)")
_NOWHERE = Address("127.0.0.1", 1)
# What the files of a mesh are written in. It changes when the same text would mean something else.
LANGUAGE_VERSION = 1


def read_mesh(root: MappingNode, files: Files) -> tuple[Mesh, tuple[Diagnostic, ...]]:
    """The mesh and what is wrong with it. It is meant to be used only when no diagnostic of the file is an error.

    `files` are those that its settings may name.
    """
    reader = _Reader(files)
    mesh = reader.mesh(root)
    return mesh, tuple(reader.diagnostics)


@dataclass
class _Reader:
    """Reads one mesh, collecting what is wrong with it. `nodes` are those it lists, once they are read."""

    files: Files
    nodes: Mapping[str, Node] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)
    inbound: list[Listening] = field(default_factory=list)

    def mesh(self, root: MappingNode) -> Mesh:
        self._language(root.get("septum"))
        segments = {key.text: self._segment(key, value) for key, value in children(root, "segments")}
        self.nodes = {key.text: self._node(key, value) for key, value in children(root, "nodes")}
        workloads = {key.text: self._workload(key, value) for key, value in children(root, "workloads")}
        enforced = self._enforced(root, segments)
        issuers, external = read_issuers(root, self.files), read_external(root, self.files)
        self._references(root, segments, {**external.found, **workloads})
        self.diagnostics += (*issuers.diagnostics, *external.diagnostics)
        mesh = Mesh(
            name=word(root.get("mesh")),
            trust_domain=word(root.get("trust_domain")),
            segments=segments,
            workloads=workloads,
            enforced=enforced,
            nodes=self.nodes,
            issuers=issuers.found,
            external=external.found if root.get("external") is not None else None,
        )
        self.diagnostics += (*address_clashes(self.listening), *address_clashes(self.inbound), *name_clashes(mesh))
        if not self.diagnostics and _complete(mesh):
            self.diagnostics += authority_clashes(mesh)
        self.diagnostics += unused(mesh, key_span(root, "workloads"))
        return mesh

    def _language(self, node: source.Node | None) -> None:
        if node is not None and word(node) != str(LANGUAGE_VERSION):
            message = f"the files are written in version {word(node)} of the language"
            help = f"this Septum reads version {LANGUAGE_VERSION}; install one that reads theirs"
            self._add(LANGUAGE, message, node.span, help=help)

    def _segment(self, key: Scalar, value: source.Node) -> Segment:
        self.diagnostics += not_a_name(key)
        nothing = isinstance(value, Scalar) and value.plain and value.text in ("null", "~")
        return Segment(key.text, "" if nothing else word(value), key.span)

    def _node(self, key: Scalar, value: source.Node) -> Node:
        self.diagnostics += not_a_name(key)
        written = child(value, "inbound")
        inbound = self._address(f"`inbound` of node `{key.text}`", key.text, written)
        if inbound is not None and written is not None:
            # Other nodes tell nodes apart by it, whatever host each of them is on.
            self.inbound.append(Listening(f"node `{key.text}`", inbound, key.span))
            if every_host(inbound):
                help = "write the address at which the other nodes call it, such as 10.0.0.11:7443"
                self._add(WRONG_VALUE, "a node is at one address", written.span, "this means every address", help)
        return Node(key.text, inbound or _NOWHERE, key.span)

    def _workload(self, key: Scalar, node: source.Node) -> Workload:
        self.diagnostics += (*not_a_name(key), *reserved_name("workload", key))
        fronted = self._fronted(key, child(node, "node"))
        protocol = _protocol(child(node, "protocol"))
        return Workload(
            name=key.text,
            segment=word(child(node, "segment")),
            at=self._at(key, fronted, child(node, "at")),
            protocol=protocol,
            health=self._health(child(node, "health"), protocol),
            websocket=self._http_flag(node, "websocket", protocol),
            path_parameters=self._http_flag(node, "path_parameters", protocol),
            ignore_case=self._http_flag(node, "ignore_case", protocol),
            mode=_mode(child(node, "mode")),
            outbound=self._identity(key, fronted, "outbound", child(node, "outbound")),
            dials=dict(self._dials(key, fronted, node)),
            timeouts=self._timeouts(child(node, "timeouts")),
            limits=_limits(child(node, "limits")),
            node=fronted,
            span=key.span,
        )

    def _fronted(self, workload: Scalar, node: source.Node | None) -> str:
        """The node that fronts a workload; empty where the mesh lists none, and where that is not said."""
        named = word(node)
        if named in self.nodes:
            return named
        if node is None and self.nodes:
            message = f"`{workload.text}` does not say which node fronts it"
            self._add(NOT_PLACED, message, workload.span, help="the mesh lists nodes, so write `node: NAME`")
        elif node is not None and not self.nodes:
            help = "leave it out: one node fronts everything; or list the node, under `nodes`"
            self._add(NOT_PLACED, "the mesh lists no nodes", node.span, help=help)
        elif node is not None and named:
            known = {name: listed.span for name, listed in self.nodes.items()}
            self.diagnostics.append(unknown_name("node", named, node.span, known))
        return ""

    def _at(self, workload: Scalar, fronted: str, node: source.Node | None) -> Address:
        address = self._address(f"`at` of `{workload.text}`", fronted, node)
        if address is not None and node is not None:
            if every_host(address):
                help = "write the address at which the workload listens, such as 127.0.0.1:9101"
                self._add(WRONG_VALUE, "a workload is at one address", node.span, "this means every address", help)
            elif fronted and not on_this_host(address, self.nodes[fronted]):
                self._plain_text(address, fronted, node.span)
        return address or _NOWHERE

    def _plain_text(self, address: Address, fronted: str, span: Span) -> None:
        there = next((node.name for node in self.nodes.values() if node.inbound.host == address.host), None)
        message = f"node `{fronted}` would call {address.host} in plain text, over a network"
        help = "use a loopback address, and let a node on the workload's own host front it"
        if there is not None:
            help = f"node `{there}` is there: let it front the workload, with `node: {there}`"
        self._add(PLAIN_TEXT, message, span, help=help)

    def _dials(self, workload: Scalar, fronted: str, node: source.Node) -> Iterator[tuple[str, Address]]:
        for target, value in children(node, "dials"):
            address = self._identity(workload, fronted, f"dials: {target.text}", value)
            yield target.text, address or _NOWHERE

    def _identity(self, workload: Scalar, fronted: str, what: str, node: source.Node | None) -> Address | None:
        """An address on which whoever connects is taken for the workload."""
        address = self._address(f"`{what}` of `{workload.text}`", fronted, node)
        if address is not None and node is not None and every_host(address):
            message = f"every host that reaches this one is taken for `{workload.text}`"
            help = "use a loopback address, or one that only the workload reaches"
            diagnostic = Diagnostic(
                OPEN_IDENTITY, message, node.span, "this means every address", help, Severity.WARNING
            )
            self.diagnostics.append(diagnostic)
        return address

    def _address(self, what: str, on: str, node: source.Node | None) -> Address | None:
        if not isinstance(node, Scalar):
            return None
        try:
            address = Address.parse(node.text)
        except ValueError as error:
            self._add(WRONG_VALUE, "this is not an address", node.span, help=str(error))
            return None
        self.listening.append(Listening(what, address, node.span, on))
        return address

    def _health(self, node: source.Node | None, protocol: Protocol) -> str | None:
        if not isinstance(node, Scalar):
            return None
        if protocol is Protocol.TCP or (protocol is Protocol.GRPC) != (node.text == "grpc"):
            help = {Protocol.TCP: "leave it out", Protocol.GRPC: "write `grpc`: the standard health service is asked"}
            message = f"a {protocol} workload has no such health check"
            self._add(PROTOCOL, message, node.span, help=help.get(protocol, "write a path, such as /healthz"))
            return None
        if protocol is Protocol.GRPC:
            return "/grpc.health.v1.Health/Check"
        return self._health_path(node)

    def _health_path(self, node: Scalar) -> str:
        try:
            pattern = PathPattern.parse(node.text)
        except PatternError as error:
            self._add(WRONG_VALUE, error.message, part(node, error.offset, error.length), help=error.help)
            return node.text
        if pattern.literal is None:
            self._add(WRONG_VALUE, "a health path is one path", node.span, help="write it without `{…}` and `/**`")
        return node.text

    def _http_flag(self, node: source.Node, key: str, protocol: Protocol) -> bool:
        value = child(node, key)
        if value is not None and protocol is not Protocol.HTTP:
            message = f"`{key}` means nothing on a {protocol} workload"
            self._add(PROTOCOL, message, value.span, help="leave it out")
        return word(value) == "true"

    def _timeouts(self, node: source.Node | None) -> Timeouts:
        given: dict[str, float] = {}
        for key, value in node.entries if isinstance(node, MappingNode) else ():
            given[key.text] = _seconds(word(value))
            if key.text == "connect" and word(value) and given[key.text] == 0:
                message = "a connection cannot be waited for without limit"
                self._add(WRONG_VALUE, message, value.span, help="such as 1s")
        default = Timeouts()
        return Timeouts(
            connect=given.get("connect", default.connect),
            request=given.get("request", default.request),
            idle=given.get("idle", default.idle),
        )

    def _enforced(self, root: MappingNode, segments: Mapping[str, Segment]) -> frozenset[str]:
        node = root.get("enforce")
        if node is None:
            return frozenset(segments)
        names: set[str] = set()
        for item in node.items if isinstance(node, Sequence) else ():
            self._segment_reference(item, segments)
            if word(item) in names:
                message = f"`{word(item)}` is written twice"
                self.diagnostics.append(Diagnostic(REPEATED, message, item.span, severity=Severity.WARNING))
            names.add(word(item))
        return frozenset(names)

    def _references(self, root: MappingNode, segments: Mapping[str, Segment], targets: Mapping[str, Target]) -> None:
        for key, node in children(root, "workloads"):
            self._segment_reference(child(node, "segment"), segments)
            for target, _ in children(node, "dials"):
                self._dialled(key, target, targets)

    def _segment_reference(self, node: source.Node | None, segments: Mapping[str, Segment]) -> None:
        if isinstance(node, Scalar) and node.text and node.text not in segments:
            known = {name: segment.span for name, segment in segments.items()}
            self.diagnostics.append(unknown_name("segment", node.text, node.span, known))

    def _dialled(self, caller: Scalar, target: Scalar, targets: Mapping[str, Target]) -> None:
        if target.text not in targets:
            known = {name: known.span for name, known in targets.items()}
            self.diagnostics.append(unknown_name("workload", target.text, target.span, known))
        elif targets[target.text].protocol is not Protocol.TCP:
            message = f"`{target.text}` speaks {targets[target.text].protocol}, and `dials` opens raw TCP"
            help = f"`{caller.text}` reaches it through its outbound listener"
            self._add(NOT_A_TARGET, message, target.span, help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def _complete(mesh: Mesh) -> bool:
    """Whether everything has the place that it needs; where not, the shape check has said so."""
    placed = all(workload.at != _NOWHERE for workload in mesh.workloads.values())
    return placed and all(place.host for place in (mesh.external or {}).values())


def _protocol(node: source.Node | None) -> Protocol:
    """The protocol, or the one that was most likely meant, so that one mistake does not bring others with it."""
    return Protocol(nearest(word(node), tuple(Protocol)) or Protocol.HTTP)


def _mode(node: source.Node | None) -> Mode | None:
    return Mode(word(node)) if word(node) in tuple(Mode) else None


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else 0.0


def _limits(node: source.Node | None) -> Limits:
    default = Limits()
    return Limits(
        connections=_count(child(node, "connections"), default.connections),
        pending=_count(child(node, "pending"), default.pending),
        requests=_count(child(node, "requests"), default.requests),
    )


def _count(node: source.Node | None, default: int) -> int:
    text = word(node)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else default
