"""Readers of the two languages in which calls are drawn, as far as they are used: what is not of the grammar fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Drawn:
    """What a drawing says: nodes by the box they are in, how each looks, and edges with their labels."""

    boxes: dict[str, list[str]] = field(default_factory=dict)
    round: set[str] = field(default_factory=set)
    dashed: set[str] = field(default_factory=set)
    edges: list[tuple[str, str, str]] = field(default_factory=list)


_ENTITY = re.compile(r"#(\d+);")
# A quoted text of a Mermaid flowchart: no quote, no markup, and a `#` only as an entity code.
_TEXT = r'"((?:[^"#<>&\\`\n]|#\d+;)+)"'
_ID = r"([ns]\d+)"


def read_mermaid(text: str) -> Drawn:
    """Read a flowchart, line by line. Raises AssertionError where it is none."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    drawn, names, box = Drawn(), dict[str, str](), ""
    for line in lines:
        line = line.strip()
        if match := re.fullmatch(rf"subgraph {_ID}\[{_TEXT}\]", line):
            assert not box
            box = _decoded(match[2])
        elif line == "end":
            assert box
            box = ""
        elif match := re.fullmatch(rf"{_ID}\[{_TEXT}\]", line):
            assert box
            names[match[1]] = _decoded(match[2])
            drawn.boxes.setdefault(box, []).append(names[match[1]])
        elif match := re.fullmatch(rf"{_ID}\(\[{_TEXT}\]\)", line):
            names[match[1]] = _decoded(match[2])
            drawn.round.add(names[match[1]])
        elif match := re.fullmatch(rf"{_ID} -->\|{_TEXT}\| {_ID}", line):
            drawn.edges.append((names[match[1]], names[match[3]], _decoded(match[2])))
        elif match := re.fullmatch(r"class ((?:n\d+,)*n\d+) observed", line):
            drawn.dashed |= {names[one] for one in match[1].split(",")}
        else:
            assert line == "classDef observed stroke-dasharray: 4 4", line
    assert not box
    return drawn


def _decoded(text: str) -> str:
    return _ENTITY.sub(lambda match: chr(int(match[1])), text)


_TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z_][A-Za-z_0-9]*)|(->|[{}\[\]=,;]))')


def read_dot(text: str) -> Drawn:
    """Read a digraph by the grammar of DOT. Raises AssertionError where it is none."""
    tokens = list(_tokens(text))
    reader = _Dot(tokens)
    reader.take("digraph")
    reader.identifier()
    reader.statements("")
    assert reader.at == len(tokens)
    return reader.drawn


def _tokens(text: str) -> Iterator[str]:
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, text[at : at + 40]
        at = match.end()
        yield match[1] or match[2] or match[3]


class _Dot:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at, self.drawn = tokens, 0, Drawn()

    def take(self, wanted: str) -> None:
        assert self.tokens[self.at] == wanted, self.tokens[self.at : self.at + 5]
        self.at += 1

    def identifier(self) -> str:
        token = self.tokens[self.at]
        assert token[0] == '"' or token.isidentifier(), token
        self.at += 1
        return re.sub(r"\\(.)", r"\1", token[1:-1]) if token[0] == '"' else token

    def statements(self, box: str) -> None:
        self.take("{")
        while self.tokens[self.at] != "}":
            box = self.statement(box)
            if self.tokens[self.at] == ";":
                self.at += 1
        self.take("}")

    def statement(self, box: str) -> str:
        """One statement; what it says that the box is called, or what that was called before."""
        if self.tokens[self.at] == "subgraph":
            self.take("subgraph")
            assert self.identifier().startswith("cluster")
            self.statements("")
            return box
        if self.tokens[self.at] == "node":
            self.take("node")
            self.attributes()
            return box
        name = self.identifier()
        if self.tokens[self.at] == "=":
            self.take("=")
            value = self.identifier()
            return value if name == "label" else box
        if self.tokens[self.at] == "->":
            self.take("->")
            target = self.identifier()
            self.drawn.edges.append((name, target, self.attributes()["label"]))
            return box
        self.node(name, box, self.attributes())
        return box

    def node(self, name: str, box: str, attributes: dict[str, str]) -> None:
        if attributes.get("shape") == "ellipse":
            self.drawn.round.add(name)
        else:
            self.drawn.boxes.setdefault(box, []).append(name)
        if attributes.get("style") == "dashed":
            self.drawn.dashed.add(name)

    def attributes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self.tokens[self.at] == "[":
            self.take("[")
            while self.tokens[self.at] != "]":
                name = self.identifier()
                self.take("=")
                found[name] = self.identifier()
                if self.tokens[self.at] in (",", ";"):
                    self.at += 1
            self.take("]")
        return found
