"""Whether an Envoy could take over, asked before it is tried: a failed try costs the running one its admin."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 30.0  # seconds that an answer may take


@dataclass(frozen=True, slots=True)
class Said:
    """What a program printed, and how it ended; `status` is None when it could not be run or took too long."""

    status: int | None
    text: str


async def check(command: Sequence[str], directory: Path, environment: Mapping[str, str], running: int) -> str:
    """Why the Envoy of this command line could not take over from the process `running`; empty when it could.

    It must speak the same version of hot restart, and accept the bootstrap.
    """
    binary = command[0]
    theirs = await ask([binary, "--hot-restart-version"], directory, environment)
    if theirs.status != 0:
        return f"{binary} is no Envoy that runs here: {_last(theirs.text)}"
    # Through /proc, so that the binary that runs is asked also after another one took its name.
    ours = await ask([f"/proc/{running}/exe", "--hot-restart-version"], directory, environment)
    if ours != theirs:
        return (
            f"{binary} speaks version {theirs.text.strip()} of hot restart and the running Envoy "
            f"{ours.text.strip() or 'none that can be found out'}; only a restart replaces it"
        )
    return await accepts(command, directory, environment)


async def accepts(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """Why the Envoy of this command line would not start with its bootstrap; empty when it would."""
    valid = await ask([*_without_log(command), "--mode", "validate"], directory, environment)
    return "" if valid.status == 0 else f"{command[0]} does not accept the bootstrap: {_last(valid.text)}"


async def version(binary: str) -> str:
    """The version of an Envoy, as `1.40.0`; empty when it does not say."""
    said = await ask([binary, "--version"], Path("/"), {})
    parts = said.text.split("version:")[-1].strip().split("/")
    return parts[1] if said.status == 0 and len(parts) > 1 else ""


async def ask(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Said:
    """Run a program to its end."""
    try:
        asked = await asyncio.create_subprocess_exec(
            *command, cwd=directory, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
    except OSError as error:
        return Said(None, str(error))
    try:
        async with asyncio.timeout(_LONGEST):
            text, _ = await asked.communicate()
    except TimeoutError:
        return Said(None, f"no answer within {_LONGEST:g} seconds")
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    return Said(asked.returncode, text.decode("utf-8", "replace"))


def _without_log(command: Sequence[str]) -> list[str]:
    """The command line with its messages on the error output."""
    words = list(command)
    if "--log-path" in words:
        at = words.index("--log-path")
        del words[at : at + 2]
    return words


def _last(text: str) -> str:
    return next((line.strip()[:500] for line in reversed(text.split("\n")) if line.strip()), "it says nothing")
