"""The files of a mesh directory to a Policy, or to everything that is wrong with them. Pure: paths and bytes come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Mesh
from septum.model.policy import Policy, Rule
from septum.policy import source
from septum.policy.codes import DUPLICATE_NAME, IGNORED_FILE, LATER, NO_MESH, UNREADABLE
from septum.policy.digest import version_of
from septum.policy.mesh_file import MeshReader
from septum.policy.rules_file import RulesReader
from septum.policy.shape import MESH, POLICY, Checker, Shape

MESH_FILE = "septum.yaml"
POLICY_DIR = "policy/"

# The content of a file, or why it could not be read.
Files = Mapping[str, bytes | OSError]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy when there is no error, and all diagnostics in the order in which they are shown."""

    policy: Policy | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that refuse the policy."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True)
class _File:
    """One file read so far as it goes by itself."""

    root: source.Node | None
    diagnostics: tuple[Diagnostic, ...]


@dataclass
class Loader:
    """Loads again and again, reading only what changed. A fresh loader gives the same result."""

    _files: dict[tuple[str, bytes], _File] = field(default_factory=dict)
    _meshes: dict[bytes, tuple[Mesh, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    _rules: dict[tuple[str, bytes, bytes], tuple[tuple[Rule, ...], tuple[Diagnostic, ...]]] = field(
        default_factory=dict
    )

    def load(self, files: Files) -> Loaded:
        """Read the files: path relative to the mesh directory (with `/`) → content, or the error that reading gave."""
        diagnostics = [d for path in sorted(files) for d in _misplaced(path)]
        readable = {path: content for path, content in files.items() if isinstance(content, bytes)}
        diagnostics += [_unreadable(path, error) for path, error in files.items() if isinstance(error, OSError)]
        if MESH_FILE not in files:
            help = "`septum init` writes one, and -C names another directory"
            diagnostics.append(
                Diagnostic(NO_MESH, f"there is no {MESH_FILE} here", Span(MESH_FILE, 1, 1, 1, 1), help=help)
            )
        mesh = self._mesh(readable, diagnostics)
        rules = self._all_rules(readable, mesh, diagnostics)
        ordered = tuple(sorted(set(diagnostics), key=lambda d: d.order))
        if mesh is None or any(d.severity is Severity.ERROR for d in ordered):
            return Loaded(None, ordered)
        return Loaded(Policy(mesh, rules, version_of(mesh, rules)), ordered)

    def _mesh(self, files: Mapping[str, bytes], diagnostics: list[Diagnostic]) -> Mesh | None:
        if MESH_FILE not in files:
            return None
        file = self._file(MESH_FILE, files[MESH_FILE], MESH)
        diagnostics += file.diagnostics
        if not isinstance(file.root, source.Mapping):
            return None
        key = sha256(files[MESH_FILE]).digest()
        if key not in self._meshes:
            reader = MeshReader()
            mesh = reader.read(file.root)
            self._meshes = {key: (mesh, tuple(reader.diagnostics))}
        mesh, found = self._meshes[key]
        diagnostics += found
        return mesh

    def _all_rules(
        self, files: Mapping[str, bytes], mesh: Mesh | None, diagnostics: list[Diagnostic]
    ) -> tuple[Rule, ...]:
        rules: list[Rule] = []
        kept = {}
        mesh_key = sha256(files.get(MESH_FILE, b"")).digest()
        for path in sorted(path for path in files if _is_policy(path)):
            file = self._file(path, files[path], POLICY)
            diagnostics += file.diagnostics
            if mesh is None or not isinstance(file.root, source.Mapping):
                continue
            key = (path, sha256(files[path]).digest(), mesh_key)
            if key not in self._rules:
                reader = RulesReader(mesh)
                self._rules[key] = (reader.read(file.root), tuple(reader.diagnostics))
            kept[key] = self._rules[key]
            rules += kept[key][0]
            diagnostics += kept[key][1]
        self._rules = kept
        return _numbered(rules, diagnostics)

    def _file(self, path: str, content: bytes, shape: Shape) -> _File:
        key = (path, sha256(content).digest())
        if key not in self._files:
            read = source.read(path, content)
            checker = Checker()
            if read.root is not None and not read.diagnostics:
                checker.check(read.root, shape, "the file")
            elif read.root is None and not read.diagnostics and shape is MESH:
                checker.check(source.Mapping((), Span(path, 1, 1, 1, 1)), shape, "the file")
            self._files = {old: file for old, file in self._files.items() if old[0] != path}
            self._files[key] = _File(read.root, (*read.diagnostics, *checker.diagnostics))
        return self._files[key]


def load(files: Files) -> Loaded:
    """Load once."""
    return Loader().load(files)


def _is_policy(path: str) -> bool:
    return path.startswith(POLICY_DIR) and path.endswith(".yaml") and not path.endswith("_test.yaml")


def _misplaced(path: str) -> Iterable[Diagnostic]:
    start = Span(path, 1, 1, 1, 1)
    if path.endswith("_test.yaml"):
        help = "keep it outside policy/ for now"
        yield Diagnostic(LATER, "policy tests are not in this version of Septum", start, help=help)
    elif path.endswith(".yml"):
        help = f"rename it to {path.removesuffix('.yml')}.yaml"
        yield Diagnostic(IGNORED_FILE, "policy files end in `.yaml`; this one would be ignored", start, help=help)


def _unreadable(path: str, error: OSError) -> Diagnostic:
    return Diagnostic(UNREADABLE, f"cannot be read: {error.strerror or error}", Span(path, 1, 1, 1, 1))


def _numbered(rules: Iterable[Rule], diagnostics: list[Diagnostic]) -> tuple[Rule, ...]:
    """Ids made unique: a given name must be, and an unnamed rule's second occurrence becomes `a->b#2`."""
    seen: Counter[str] = Counter()
    first: dict[str, Rule] = {}
    numbered = []
    for rule in rules:
        seen[rule.id] += 1
        if seen[rule.id] == 1:
            first[rule.id] = rule
        elif "->" in rule.id:
            rule = replace(rule, id=f"{rule.id}#{seen[rule.id]}")
        elif rule.span is not None:
            where = first[rule.id].span
            label = f"the first is at {where.place}" if where else ""
            diagnostics.append(Diagnostic(DUPLICATE_NAME, f"two rules are called `{rule.id}`", rule.span, label))
        numbered.append(rule)
    return tuple(numbered)
