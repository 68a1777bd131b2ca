"""What recorded traffic used of the rules, where there is a record."""

from __future__ import annotations

from pathlib import Path

import click

from septum.audit.schema import FILE, StoreUnavailable, WrongVersion
from septum.audit.usage import usage
from septum.cli.case_lines import Traffic
from septum.cli.place import state_dir
from septum.model.policy import Policy


def traffic_of(mesh: Path, policy: Policy, seconds: float, now: float) -> Traffic | None:
    """The use of each operation of each rule in the last `seconds`, or since the record begins if that is later.

    None where nothing is on record.
    """
    path = state_dir(mesh) / "records" / FILE
    if not path.exists():
        return None
    try:
        found = usage(path, policy, now - seconds)
    except (StoreUnavailable, WrongVersion) as error:
        click.echo(f"traffic is not shown: {error}", err=True)
        return None
    return None if found.begins is None else Traffic(found.operations, min(seconds, now - found.begins), now)
