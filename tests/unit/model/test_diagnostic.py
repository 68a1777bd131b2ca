from __future__ import annotations

from septum.model.diagnostic import Diagnostic, Severity, Span


def test_a_span_is_shown_as_a_terminal_opens_it() -> None:
    span = Span("policy/a.yaml", 3, 7, 3, 9)
    assert (str(span), span.place) == ("policy/a.yaml:3:7", "policy/a.yaml:3")


def test_diagnostics_are_ordered_by_place() -> None:
    def at(file: str, line: int, column: int, code: str = "SEP101") -> Diagnostic:
        return Diagnostic(code, "m", Span(file, line, column, line, column + 1))

    ordered = [at("a", 2, 1), at("a", 10, 1), at("a", 10, 2), at("a", 10, 2, "SEP102"), at("b", 1, 1)]
    mixed = [ordered[index] for index in (3, 0, 4, 2, 1)]
    assert sorted(mixed, key=lambda diagnostic: diagnostic.order) == ordered


def test_a_diagnostic_is_an_error_unless_it_says_otherwise() -> None:
    assert Diagnostic("SEP101", "m", Span("a", 1, 1, 1, 1)).severity is Severity.ERROR
