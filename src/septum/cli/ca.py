"""`septum ca`: the mesh's certificate authority."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from septum.cli.ask import ask
from septum.cli.output import console, print_json, style
from septum.cli.place import mesh_dir, state_dir
from septum.control import api
from septum.control.files import read_mesh_dir
from septum.policy.load import load

if TYPE_CHECKING:
    from septum.identity.authority import Authority
    from septum.identity.issuer import Upstream
    from septum.identity.rotation import Rotation
    from septum.identity.standing import Standing
    from septum.model.mesh import Mesh

# Waiting until every node holds new certificates takes as long as the slowest of them.
_PATIENCE = 600.0

_NODES_WOULD_NOT_HEAR = (
    "no control plane runs to tell the nodes between the steps: start it, or do one step at a time, or all of them "
    "--at-once, after which every node has to join again"
)

_FILE = click.Path(path_type=Path, dir_okay=False)
_upstream_cert = click.option(
    "--upstream-cert",
    type=_FILE,
    metavar="FILE",
    help="Another PKI's authority, and all above it up to the root (PEM).",
)
_upstream_key = click.option("--upstream-key", type=_FILE, metavar="FILE", help="The key of that authority (PEM).")


@click.group(
    epilog="\b\nExamples:\n  septum ca init --passphrase-file root.pass\n  septum ca show\n"
    "  septum ca rotate --what intermediate\n  septum ca export -o roots.pem"
)
def command() -> None:
    """Create, show and rotate the certificate authority of the mesh's trust domain.

    A root signs an intermediate, which signs the certificates of nodes and workloads. The root's key is needed for a
    new intermediate alone: it can be moved away from .septum/ca, and given with --root-key.
    """


@command.command()
@click.option("--passphrase-file", type=_FILE, metavar="FILE", help="Encrypt the root's key with what FILE holds.")
@_upstream_cert
@_upstream_key
@click.pass_obj
def init(
    above: Path | None, passphrase_file: Path | None, upstream_cert: Path | None, upstream_key: Path | None
) -> int:
    """Make the authority, unless there is one: under a root of its own, or under another PKI's authority.

    With an upstream, --passphrase-file is for the upstream's key.
    """
    from septum.identity.authority import Authority, NoAuthorityError

    mesh = mesh_dir(above)
    place, trust_domain = state_dir(mesh) / "ca", _mesh(mesh).trust_domain
    passphrase = _passphrase(passphrase_file)
    upstream = _upstream(upstream_cert, upstream_key, passphrase)
    with _said():
        try:
            there = Authority.open(place, trust_domain)
        except NoAuthorityError:
            made = Authority.create(place, trust_domain, time.time(), passphrase=passphrase, upstream=upstream)
            click.echo(f"made the authority of {trust_domain} in {place}")
            _show(made.standing(), time.time())
            return 0
    if upstream is not None:
        raise click.ClickException("there is an authority already: `septum ca rotate` puts it below an upstream")
    click.echo(f"the authority of {trust_domain} is there already")
    _show(there.standing(), time.time())
    return 0


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(above: Path | None, as_json: bool) -> int:
    """Show the authority's certificates, where a rotation stands, and what will have to be done."""
    standing, now = _open(mesh_dir(above)).standing(), time.time()
    if as_json:
        fields = asdict(standing)
        print_json(fields | {"certificates": fields.pop("parts"), "warnings": standing.warnings(now)})
    else:
        _show(standing, now)
    return 0


@command.command(
    epilog="\b\nExamples:\n  septum ca rotate\n  septum ca rotate --what intermediate --root-key /mnt/safe/root.key\n"
    "  septum ca rotate --step prepare"
)
@click.option("--what", type=click.Choice(["root", "intermediate"]), help="What to replace. [default: root]")
@click.option(
    "--step",
    type=click.Choice(["prepare", "activate", "retire", "all"]),
    default="all",
    show_default=True,
    help="How far to go now.",
)
@click.option("--root-key", type=_FILE, metavar="FILE", help="The key that signs the intermediate, if it is not here.")
@click.option(
    "--passphrase-file", type=_FILE, metavar="FILE", help="FILE holds the passphrase of a key: given, or a new root's."
)
@_upstream_cert
@_upstream_key
@click.option("--at-once", is_flag=True, help="All steps although no control plane runs: nodes have to join again.")
@click.pass_obj
def rotate(above: Path | None, /, step: str, at_once: bool, **asked: Any) -> int:
    """Replace the root or the intermediate without a moment in which calls fail.

    Three steps: `prepare` makes the new one and has it trusted beside the old one, `activate` signs with it, `retire`
    drops the old one. Between them every node has to hear of it, for which the control plane has to run; a step that is
    done already does nothing. What was begun goes on with what it began with.
    """
    from septum.identity.rotation import Step, carry_out, remaining

    mesh = mesh_dir(above)
    rotation = _rotation(**asked)
    if _runs(mesh):
        answer = ask(mesh, "ca", _PATIENCE, step=step, **rotation.arguments())
        click.echo("\n".join(answer["done"]))
        return 0
    if step == "all" and _mesh(mesh).nodes and not at_once:
        raise click.ClickException(_NODES_WOULD_NOT_HEAR)
    authority, now = _open(mesh), time.time()
    with _said():
        for next in remaining(authority.stage) if step == "all" else (Step(step),):
            click.echo(carry_out(authority, next, rotation, now))
    _show(authority.standing(), now)
    return 0


@command.command()
@click.option(
    "--format", "form", type=click.Choice(["pem", "spiffe"]), default="pem", show_default=True, help="PEM or a JWK set."
)
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write to FILE.")
@click.pass_obj
def export(above: Path | None, form: str, output: Path | None) -> int:
    """Print what has to be trusted to check a workload's certificate: the roots, for other programs and domains."""
    with _said():
        bundle = _open(mesh_dir(above)).bundle(time.time())
    text = bundle.spiffe_json if form == "spiffe" else bundle.roots_pem.decode()
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output}: {error.strerror}") from error
    click.echo(f"wrote {output}")
    return 0


def _runs(mesh: Path) -> bool:
    """Whether a control plane answers. One that is too slow to say so must not have its files changed beneath it."""
    try:
        api.call(state_dir(mesh), "status", timeout=5.0)
    except api.NotRunningError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise click.ClickException(str(error)) from error
        return False
    return True


def _mesh(mesh: Path) -> Mesh:
    policy = load(read_mesh_dir(mesh)).policy
    if policy is None:
        raise click.ClickException("the files of the mesh have errors, and they name the trust domain: `septum check`")
    return policy.mesh


def _open(mesh: Path) -> Authority:
    from septum.identity.authority import Authority

    with _said():
        return Authority.open(state_dir(mesh) / "ca", _mesh(mesh).trust_domain)


def _rotation(
    what: str | None,
    root_key: Path | None,
    passphrase_file: Path | None,
    upstream_cert: Path | None,
    upstream_key: Path | None,
) -> Rotation:
    from septum.identity.ledger import What
    from septum.identity.rotation import Rotation

    passphrase = _passphrase(passphrase_file)
    return Rotation(
        What(what) if what else None,
        _content(root_key) if root_key else None,
        passphrase,
        _upstream(upstream_cert, upstream_key, passphrase),
    )


def _upstream(certificate: Path | None, key: Path | None, passphrase: bytes | None) -> Upstream | None:
    from septum.identity.issuer import Upstream

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--upstream-cert and --upstream-key go together")
    return Upstream(_content(certificate), _content(key), passphrase)


def _passphrase(file: Path | None) -> bytes | None:
    """The file without the newline that an editor puts at its end."""
    if file is None:
        return None
    passphrase = _content(file).removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise click.ClickException(f"{file} is empty: it should hold the passphrase")
    return passphrase


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error


@contextmanager
def _said() -> Iterator[None]:
    """What the authority cannot do, as the command line says it."""
    from septum.identity.authority import AuthorityError

    try:
        yield
    except AuthorityError as error:
        raise click.ClickException(str(error)) from error


def _show(standing: Standing, now: float) -> None:
    from rich.table import Table

    click.echo(f"trust domain {style(standing.trust_domain, bold=True)}  {_stage(standing)}")
    if standing.revoked:
        click.echo(f"revoked certificates: {standing.revoked}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("certificate", "id", "use", "from", "until", "key", "subject"):
        table.add_column(title, no_wrap=True)
    for part in standing.parts:
        days = [f"{datetime.fromtimestamp(moment, UTC):%F}" for moment in (part.not_before, part.not_after)]
        table.add_row(part.role, part.id, part.use, *days, part.key, part.subject)
    console().print(table)
    for warning in standing.warnings(now):
        click.echo(style(warning, fg="yellow"))


def _stage(standing: Standing) -> str:
    match standing.stage:
        case "prepared":
            return f"a new {standing.what} is prepared: septum ca rotate --step activate"
        case "activated":
            return f"a new {standing.what} signs, the old one is trusted too: septum ca rotate --step retire"
        case _:
            return "no rotation is under way"
