"""The files of a mesh directory to a Policy, or to everything that is wrong with them. Pure: paths and bytes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.guarantee import Guarantee
from septum.model.mesh import Mesh
from septum.model.policy import Policy, Rule
from septum.policy import source
from septum.policy.codes import DUPLICATE_NAME, IGNORED_FILE, NO_MESH, UNREADABLE
from septum.policy.digest import version_of
from septum.policy.fit import fit
from septum.policy.guarantees_file import Stated, read_guarantees
from septum.policy.mesh_file import read_mesh
from septum.policy.named_files import Files
from septum.policy.roles import MESH_FILE, MISSPELT_MESH_FILE, Role, role
from septum.policy.rules_file import RulesReader, Written
from septum.policy.shape import MESH, POLICY, Keys
from septum.policy.text import whole

__all__ = ["MESH_FILE", "Files", "Loaded", "Loader", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy when there is no error, and all diagnostics in the order in which they are shown.

    `partial` is what could be read, with errors or without: what else is wrong can be told by it, and nothing decided.
    """

    policy: Policy | None
    diagnostics: tuple[Diagnostic, ...]
    partial: Policy | None = None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that refuse the policy."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True)
class _File:
    """One file, read so far as it goes by itself: its tree, what is wrong with it, and the digest of its bytes."""

    root: source.Node | None
    diagnostics: tuple[Diagnostic, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules and guarantees of one file over one mesh."""

    written: tuple[Written, ...]
    stated: tuple[Stated, ...]
    diagnostics: tuple[Diagnostic, ...]


@dataclass
class Loader:
    """Loads again and again, reading only what changed. A fresh loader gives the same result."""

    _files: dict[str, _File] = field(default_factory=dict)
    _meshes: dict[tuple[bytes, bytes], tuple[Mesh, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    _rules: dict[tuple[str, bytes, bytes], _Rules] = field(default_factory=dict)
    _numbered: dict[tuple[int, int], tuple[Rule, Rule]] = field(default_factory=dict)

    def load(self, files: Files) -> Loaded:
        """Read the files; nothing else plays a part."""
        diagnostics = [d for path, content in files.items() for d in _by_itself(path, content)]
        if MESH_FILE not in files:
            diagnostics.append(_no_mesh(files))
        trees = {path: self._file(path, content) for path, content in _readable(files)}
        self._files = trees
        diagnostics += [d for file in trees.values() for d in file.diagnostics]
        loaded = self._resolved(trees, _named(files), diagnostics)
        ordered = tuple(sorted(set(diagnostics), key=lambda d: d.order))
        if loaded is None:
            return Loaded(None, ordered)
        mesh, rules, guarantees = loaded
        if any(d.severity is Severity.ERROR for d in ordered):
            return Loaded(None, ordered, Policy(mesh, rules, "", guarantees=guarantees))
        policy = Policy(mesh, rules, version_of(mesh, rules, guarantees=guarantees), guarantees=guarantees)
        return Loaded(policy, ordered, policy)

    def _file(self, path: str, content: bytes) -> _File:
        digest = sha256(content).digest()
        known = self._files.get(path)
        if known is not None and known.digest == digest:
            return known
        read = source.read(path, content)
        if read.diagnostics:
            return _File(None, read.diagnostics, digest)
        shape, root = (MESH, read.root or _nothing(path)) if path == MESH_FILE else (POLICY, read.root)
        return _File(root, _fits(root, shape), digest)

    def _resolved(
        self, trees: Mapping[str, _File], named: Files, diagnostics: list[Diagnostic]
    ) -> tuple[Mesh, tuple[Rule, ...], tuple[Guarantee, ...]] | None:
        file = trees.get(MESH_FILE)
        if file is None or not isinstance(file.root, source.Mapping):
            return None
        key = (file.digest, _digest(named))
        if key not in self._meshes:
            self._meshes = {key: read_mesh(file.root, named)}
        mesh, found = self._meshes[key]
        diagnostics += found
        policies = {path: tree for path, tree in trees.items() if path != MESH_FILE}
        return mesh, *self._all_rules(policies, mesh, file.digest, diagnostics)

    def _all_rules(
        self, trees: Mapping[str, _File], mesh: Mesh, mesh_digest: bytes, diagnostics: list[Diagnostic]
    ) -> tuple[tuple[Rule, ...], tuple[Guarantee, ...]]:
        kept = {}
        for path in sorted(trees):
            key = (path, trees[path].digest, mesh_digest)
            kept[key] = self._rules.get(key) or _read_rules(trees[path].root, mesh)
        self._rules = kept
        diagnostics += [d for rules in kept.values() for d in rules.diagnostics]
        written = [one for rules in kept.values() for one in rules.written]
        diagnostics += _repeated_names("rules", ((one.rule.id, one.name) for one in written))
        stated = [one for rules in kept.values() for one in rules.stated]
        diagnostics += _repeated_names("guarantees", ((one.guarantee.name, one.name) for one in stated))
        rules = tuple(sorted(self._number(written), key=lambda rule: rule.id))
        return rules, tuple(one.guarantee for one in stated)

    def _number(self, written: Iterable[Written]) -> Iterator[Rule]:
        """Ids made unique: an unnamed rule's second occurrence becomes `a->b#2`."""
        seen: Counter[str] = Counter()
        numbered = {}
        for one in written:
            rule = one.rule
            seen[rule.id] += 1
            if one.name is None and seen[rule.id] > 1:
                key = (id(rule), seen[rule.id])
                # A kept rule holds the rule it came from, so that the id of that one stays its own.
                numbered[key] = self._numbered.get(key) or (rule, replace(rule, id=f"{rule.id}#{seen[rule.id]}"))
                rule = numbered[key][1]
            yield rule
        self._numbered = numbered


def load(files: Files) -> Loaded:
    """Load once."""
    return Loader().load(files)


def _readable(files: Files) -> Iterator[tuple[str, bytes]]:
    """The files that make up the mesh and its policy. Those with errors have a diagnostic, others no part in it."""
    for path, content in files.items():
        if role(path) in (Role.MESH, Role.POLICY) and isinstance(content, bytes):
            yield path, content


def _named(files: Files) -> Files:
    """The files that settings may name by their path."""
    return {path: content for path, content in files.items() if role(path) is Role.FILE}


def _digest(named: Files) -> bytes:
    """One digest over files as they are, or as they cannot be read."""
    digest = sha256()
    for path, content in sorted(named.items()):
        what = sha256(content).digest() if isinstance(content, bytes) else repr(content).encode()
        digest.update(repr((path, what)).encode())
    return digest.digest()


def _by_itself(path: str, content: bytes | OSError) -> Iterator[Diagnostic]:
    """What is wrong with a file whatever is in it."""
    match role(path):
        case Role.MISNAMED:
            yield Diagnostic(
                IGNORED_FILE,
                "this looks like a policy file, and would be ignored",
                whole(path),
                help="files that end in `.yaml` are read; rename it, or move it away",
            )
        case Role.FILE:
            pass  # read where a setting names it, and nobody's business otherwise
        case Role.TEST | Role.PAGE:
            pass  # tests say nothing of what is allowed; `cases_file` reads them
        case _ if isinstance(content, OSError):
            reason = content.strerror or str(content) or type(content).__name__
            yield Diagnostic(UNREADABLE, f"this cannot be read: {reason}", whole(path))
        case _:
            pass


def _no_mesh(files: Files) -> Diagnostic:
    help = "`septum init` writes one, and -C names another directory"
    if MISSPELT_MESH_FILE in files:
        help = f"rename {MISSPELT_MESH_FILE} to {MESH_FILE}"
    return Diagnostic(NO_MESH, f"there is no {MESH_FILE} here", whole(MESH_FILE), help=help)


def _nothing(path: str) -> source.Mapping:
    """An empty mapping, for a mesh file in which nothing stands: it lacks what is required."""
    return source.Mapping((), whole(path))


def _fits(root: source.Node | None, shape: Keys) -> tuple[Diagnostic, ...]:
    return () if root is None else fit(root, shape)


def _read_rules(root: source.Node | None, mesh: Mesh) -> _Rules:
    if not isinstance(root, source.Mapping):
        return _Rules((), (), ())
    reader = RulesReader(mesh)
    written, stated = reader.read(root), read_guarantees(root, reader)
    return _Rules(written, stated, tuple(reader.diagnostics))


def _repeated_names(what: str, named: Iterable[tuple[str, Span | None]]) -> Iterator[Diagnostic]:
    first: dict[str, Span] = {}
    for name, span in named:
        if span is None:
            continue
        known = first.setdefault(name, span)
        if known is not span:
            message = f"two {what} are called `{name}`"
            yield Diagnostic(DUPLICATE_NAME, message, span, f"the first is at {known.place}")
