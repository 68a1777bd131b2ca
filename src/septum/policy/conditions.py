"""A rule's `when` to a When. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from septum.model.claims import AnyOf, Contains, Equals, Scope, Test, When
from septum.model.diagnostic import Diagnostic
from septum.model.mesh import Mesh
from septum.policy.codes import WRONG_VALUE
from septum.policy.fit import value_of
from septum.policy.names import repeated, unknown_name
from septum.policy.source import Mapping, Node, Scalar, children, words

# Of all claims, the one that says who vouches for the others.
ISSUER = "iss"


def read_when(node: Node, mesh: Mesh) -> tuple[When | None, tuple[Diagnostic, ...]]:
    """The condition (None where its shape is wrong) and what is wrong with it."""
    tests: list[tuple[str, Test]] = []
    found: list[Diagnostic] = []
    for name, written in children(node, "claims"):
        found += _findings(name, written, mesh)
        test = _test(written)
        if test is not None:
            tests.append((name.text, test))
    # The issuer comes first, so that a token of another one is said to be that.
    tests.sort(key=lambda entry: (entry[0] != ISSUER, entry[0]))
    return When(tuple(tests)) if tests else None, tuple(found)


def _test(node: Node) -> Test | None:
    if isinstance(node, Scalar):
        return Equals(value_of(node))
    key, value = _only(node)
    match key:
        case "equals" if isinstance(value, Scalar):
            return Equals(value_of(value))
        case "any_of":
            return AnyOf(tuple(value_of(one) for one in words(value)))
        case "contains" if isinstance(value, Scalar):
            return Contains(value_of(value))
        case "scope" if isinstance(value, Scalar):
            return Scope(value.text)
        case _:
            return None


def _only(node: Node) -> tuple[str, Node | None]:
    """The one key of a test, and what is under it."""
    if isinstance(node, Mapping) and len(node.entries) == 1:
        key, value = node.entries[0]
        return key.text, value
    return "", None


def _findings(name: Scalar, written: Node, mesh: Mesh) -> Iterator[Diagnostic]:
    if name.text == "":
        yield Diagnostic(WRONG_VALUE, "a claim has a name", name.span)
    key, value = _only(written)
    if key == "any_of":
        # `1` and `"1"` are two values, and so are `true` and `1`.
        yield from repeated(words(value), lambda one: repr(value_of(one)))
    if name.text == ISSUER:
        yield from _issuer(name, written, mesh)


def _issuer(name: Scalar, written: Node, mesh: Mesh) -> Iterator[Diagnostic]:
    key, value = _only(written)
    if key in ("contains", "scope"):
        message = "a token has one issuer, which is a text"
        yield Diagnostic(WRONG_VALUE, message, name.span, help="write the issuer, or {any_of: [...]} of several")
        return
    known = {issuer.issuer for issuer in mesh.issuers.values()}
    for one in words(value if isinstance(written, Mapping) else written):
        if not isinstance(value_of(one), str):
            yield Diagnostic(WRONG_VALUE, "an issuer is a text", one.span, help="quote it")
        elif one.text and one.text not in known:
            yield unknown_issuer(one, mesh)


def unknown_issuer(written: Scalar, mesh: Mesh) -> Diagnostic:
    """The diagnostic for an issuer that the mesh does not list."""
    known = {issuer.issuer: issuer.span for issuer in mesh.issuers.values()}
    diagnostic = unknown_name("issuer", written.text, written.span, known)
    if not known:
        return replace(diagnostic, help="list it in septum.yaml, under `issuers`")
    if written.text in mesh.issuers:
        return replace(diagnostic, help=f"did you mean `{mesh.issuers[written.text].issuer}`?")
    return diagnostic
