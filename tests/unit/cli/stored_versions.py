"""A mesh directory with versions that were stored and signed, and no control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from septum.control.signing import Signer
from septum.control.state import End, Fate, State, Version


class Stored:
    """The state in a mesh's `.septum`; each version has one policy file, and was applied by ada at its number."""

    def __init__(self, mesh: Path) -> None:
        (mesh / ".septum").mkdir()
        self.state = State(mesh / ".septum" / "state.db")
        self.signer = Signer(mesh / ".septum", 0)

    def store(self, content: str, **differs: Any) -> Version:
        """One version more."""
        number = self.state.next_number()
        files = {"septum.yaml": b"mesh: x\n", "policy/a.yaml": content.encode()}
        made: dict[str, Any] = {
            "number": number, "digest": content[:1] * 64, "applied": float(number), "author": "ada", "files": files,
            "slices": {},
        }  # fmt: skip
        version = self.signer.signed(Version(**made | differs))
        self.state.enforce(version)
        return version

    def confirm(self, version: Version, by: str) -> None:
        """It stays."""
        self.state.end((version.number, self.signer.signed_end(version, End(Fate.CONFIRMED, 99.0, by))))
