"""Changed files as a unified diff that `git apply` and `patch -p1` take."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from septum.policy.named_files import Files

_NO_NEWLINE = "\\ No newline at end of file\n"


def patch(before: Files, after: Mapping[str, bytes], prefix: str = "") -> str:
    """The diff from `before` to what changed in it; a file that was not there is new. `prefix` stands before paths."""
    return "".join(_file(prefix + path, before.get(path), content) for path, content in sorted(after.items()))


def _file(path: str, old: bytes | OSError | None, new: bytes) -> str:
    had = old if isinstance(old, bytes) else None
    if had == new:
        return ""
    known, named = _quoted(f"a/{path}"), _quoted(f"b/{path}")
    created = "" if had is not None else "new file mode 100644\n"
    source = "/dev/null" if had is None else known
    hunks = difflib.unified_diff(_lines(had or b""), _lines(new), _name(source), _name(named), n=3)
    return f"diff --git {known} {named}\n{created}" + "".join(_ended(hunks))


def _lines(content: bytes) -> list[str]:
    """Lines by LF alone; bytes that are no UTF-8 do not occur in files that were read."""
    parts = content.decode("utf-8").split("\n")
    lines = [f"{part}\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def _ended(hunks: Iterator[str]) -> Iterator[str]:
    for line in hunks:
        yield line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}"


def _name(path: str) -> str:
    """A path as the lines `---` and `+++` have it: what follows a tab would be a time."""
    return f"{path}\t" if " " in path and not path.startswith('"') else path


def _quoted(path: str) -> str:
    """A path as git writes it, in quotes where it holds what would end it."""
    if path.isprintable() and '"' not in path and "\\" not in path:
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else _octal(one) for one in escaped) + '"'


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())
