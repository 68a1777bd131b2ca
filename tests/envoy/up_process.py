"""One `septum up` as a process, with its events as they are told."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from waiting import until


class Up:
    """A running `septum up --log-format json`. `says` tells what to add to the message when a wait fails."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], errors: Path, says: Callable[[], str]
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._errors, self._says = errors, says
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                command, env=dict(environment), stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def err(self) -> str:
        """What it has written to its error output."""
        return self._errors.read_text()

    def event(self, name: str, within: float = 20, after: int = 0, **fields: Any) -> dict[str, Any]:
        """The first event of that name with these fields, from the place `after` in `events` on. Waited for."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": name, **fields}.items()
            match = next((e for e in self.events[after:] if wanted <= e.items()), None)
            assert match or self._reader.is_alive(), f"it ended without {name} {fields}: {self._story()}"
            return match

        match = until(found, within, f"the event {name} {fields}", self._story)
        assert match
        return match

    def pid_of(self, process: str) -> int:
        """The pid of the latest process of this name."""
        started = ("started", "taken over")
        return [e for e in self.events if e["event"] in started and e["process"] == process][-1]["pid"]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, within: float = 20) -> int:
        """Its exit status, once it has ended."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it did not end: {self._story()}") from error
        self._reader.join(within)
        return code

    def close(self) -> None:
        """End it as Ctrl-C does, or by force when that takes too long; what it leaves then is the caller's to find."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGINT)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdout
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.events.append(json.loads(line) if line.startswith("{") else {"event": "text", "text": line})

    def _story(self) -> str:
        return "\n".join([*map(str, self.events), self._says()])
