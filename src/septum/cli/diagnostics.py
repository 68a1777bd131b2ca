"""One Diagnostic, three renderings: text for people, JSON for programs, SARIF 2.1.0 for code hosts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from septum import __version__
from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.policy.codes import CODES

Sources = Mapping[str, bytes | OSError]


def as_text(diagnostics: Sequence[Diagnostic], sources: Sources, *, colour: bool) -> str:
    """Every finding with the line it is about, the place marked, and what to do."""
    style: Callable[..., str] = click.style if colour else _plain
    return "\n\n".join(_block(diagnostic, sources, style) for diagnostic in diagnostics)


def _plain(text: str, **_: Any) -> str:
    return text


def _block(diagnostic: Diagnostic, sources: Sources, style: Callable[..., str]) -> str:
    severity, span = diagnostic.severity, diagnostic.span
    tone = "red" if severity is Severity.ERROR else "yellow"
    lines = [style(f"{severity}[{diagnostic.code}]", fg=tone, bold=True) + style(f": {diagnostic.message}", bold=True)]
    margin = " " * len(str(span.line))
    lines.append(f"{margin}{style('-->', fg='blue')} {span}")
    text = _line(sources, span)
    if text is not None:
        bar = style("|", fg="blue")
        end = span.end_column if span.end_line == span.line else len(text) + 1
        marks = "^" * max(1, min(end, len(text) + 1) - span.column)
        lines.append(f"{margin} {bar}")
        lines.append(f"{style(str(span.line), fg='blue')} {bar} {text}")
        lines.append(f"{margin} {bar} {' ' * (span.column - 1)}{style(marks, fg=tone)} {diagnostic.label}".rstrip())
    elif diagnostic.label:
        lines.append(f"{margin} = {diagnostic.label}")
    if diagnostic.help:
        lines.append(f"{margin} {style('=', fg='blue')} help: {diagnostic.help}")
    return "\n".join(lines)


def _line(sources: Sources, span: Span) -> str | None:
    content = sources.get(span.file)
    if not isinstance(content, bytes):
        return None
    lines = content.decode("utf-8", "replace").splitlines()
    return lines[span.line - 1].replace("\t", " ") if 0 < span.line <= len(lines) and lines[span.line - 1] else None


def as_json(diagnostics: Iterable[Diagnostic]) -> str:
    """A list of objects."""
    return json.dumps([asdict(diagnostic) for diagnostic in diagnostics], indent=2)


def as_sarif(diagnostics: Iterable[Diagnostic]) -> str:
    """A SARIF log (OASIS SARIF 2.1.0)."""
    found = list(diagnostics)
    rules = [
        {"id": code, "shortDescription": {"text": CODES[code][0]}, "fullDescription": {"text": CODES[code][1]}}
        for code in sorted({diagnostic.code for diagnostic in found})
    ]
    driver = {"name": "septum", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": [_result(d) for d in found]}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(diagnostic: Diagnostic) -> dict[str, Any]:
    span = diagnostic.span
    region = {
        "startLine": span.line, "startColumn": span.column, "endLine": span.end_line, "endColumn": span.end_column,
    }  # fmt: skip
    location = {"physicalLocation": {"artifactLocation": {"uri": span.file}, "region": region}}
    text = " ".join(part for part in (diagnostic.message + ".", diagnostic.label, diagnostic.help) if part)
    return {
        "ruleId": diagnostic.code,
        "level": str(diagnostic.severity),
        "message": {"text": text},
        "locations": [location],
    }


def from_json(value: Mapping[str, Any]) -> Diagnostic:
    """A diagnostic that crossed the control socket."""
    return Diagnostic(
        value["code"],
        value["message"],
        Span(**value["span"]),
        value["label"],
        value["help"],
        Severity(value["severity"]),
    )


def count(diagnostics: Iterable[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    found = list(diagnostics)
    numbers = {severity: sum(d.severity is severity for d in found) for severity in Severity}
    return ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in numbers.items() if n) or "no findings"
