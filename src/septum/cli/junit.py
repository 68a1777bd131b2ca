"""Test results as JUnit XML, in the form that CI systems read: a suite a file, a testcase a case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from septum.app.trial.verdict import Fate, Ran

# What XML 1.0 (section 2.2) cannot hold, even escaped.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(ran: Sequence[Ran], seconds: float, before: str = "") -> str:
    """One document. `seconds` is how long all of them took; a single case takes no time that could be told."""
    root = ET.Element("testsuites", {"name": "septum", **_counts(ran), "time": f"{seconds:.3f}"})
    files = dict.fromkeys(_file(one) for one in ran)
    for file in files:
        of_file = [one for one in ran if _file(one) == file]
        suite = ET.SubElement(root, "testsuite", {"name": before + file, **_counts(of_file)})
        for one in of_file:
            _case(suite, one, before)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, one: Ran, before: str) -> None:
    case = one.result.case
    line = str(case.span.line) if case.span else ""
    file = before + _file(one)
    element = ET.SubElement(suite, "testcase", classname=file, name=_clean(case.title), file=file, line=line)
    if one.fate is Fate.PASSED:
        return
    lines = list(one.lines(before))
    kind = "failure" if one.fate is Fate.FAILED else "error"
    ET.SubElement(element, kind, message=_clean(lines[0]), type=one.fate.name.lower()).text = _clean("\n".join(lines))


def _counts(ran: Iterable[Ran]) -> dict[str, str]:
    fates = [one.fate for one in ran]
    failed = fates.count(Fate.FAILED)
    errors = len(fates) - failed - fates.count(Fate.PASSED)
    return {"tests": str(len(fates)), "failures": str(failed), "errors": str(errors)}


def _clean(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", text)


def _file(one: Ran) -> str:
    return one.result.case.span.file if one.result.case.span else ""
