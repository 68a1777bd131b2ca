"""The Envoy that writes the decisions, as the record's reader asks it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from septum.audit.account import Counted
from septum.node import admin, adopted


@dataclass(frozen=True, slots=True)
class EnvoyWriter:
    """Asks the Envoy of a state directory; `counter` is the name of its count of decisions."""

    state: Path
    counter: str

    async def reopen(self) -> None:
        """Have the log opened again; asked again by the caller until there is a new file."""
        try:
            await admin.reopen_logs(self.state)
        except admin.AdminError:
            return  # Envoy is not there: it opens the new file when it starts

    async def counted(self) -> Counted | None:
        """The decisions of the run that is there now, or None when it cannot be asked."""
        run = adopted.run_of(self.state, "envoy")
        count = await admin.counter(self.state, self.counter)
        if run is None or count is None or run != adopted.run_of(self.state, "envoy"):
            return None
        return Counted(run, count)
