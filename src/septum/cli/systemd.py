"""`septum systemd`: the units of the services, for this installation."""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

import click

UNITS = {"control": "septum-control@.service", "node": "septum-node.service"}
# Where the units say that Septum is.
_PLACE = "/opt/septum/bin/septum"
# ProtectHome= hides these from the services (systemd.exec(5)).
_HIDDEN = ("/home/", "/root/", "/run/user/")
# Characters that systemd reads as themselves in a command line (systemd.service(5), "Command lines").
_PLAIN = re.compile(r"[A-Za-z0-9/._+@=-]+")


@click.command(
    epilog="\b\nExamples:\n  septum systemd node > /etc/systemd/system/septum-node.service\n"
    "  septum systemd control > /etc/systemd/system/septum-control@.service"
)
@click.argument("service", type=click.Choice(list(UNITS)))
def command(service: str) -> int:
    """Print the systemd unit of the control plane or of a node. Its first lines say how to install it."""
    interpreter = Path(sys.executable)
    click.echo(unit(service, interpreter.parent / "septum", interpreter.resolve()), nl=False)
    return 0


def unit(service: str, program: Path, interpreter: Path) -> str:
    """The unit, with the program that it starts. Raises click.ClickException when a service cannot start that.

    `interpreter` is where a virtual environment's Python really is, which may be elsewhere than the environment.
    """
    for place in map(str, (program, interpreter)):
        if place.startswith(_HIDDEN):
            help = "install Septum and its Python elsewhere, such as in /opt/septum"
            raise click.ClickException(f"{place} is hidden from services: {help}")
    if not _PLAIN.fullmatch(str(program)):
        raise click.ClickException(f"{str(program)!r} has characters that systemd reads in its own way: move it")
    return resources.files("septum.cli").joinpath(UNITS[service]).read_text().replace(_PLACE, str(program))
