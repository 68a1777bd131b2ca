"""The `septum` command: verbs by name, loaded when they are used, so that `--help` and short verbs start fast."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from septum import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Verb → (group of the help page, one line). The module septum.cli.VERB has the `command`.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("Start", "Write a commented starting mesh into a directory."),
    "demo": ("Start", "Run the example shop behind Septum, with a live view."),
    "check": ("Policy", "Check the mesh and its policy; every finding at once."),
    "test": ("Policy", "Run the policy's tests, by the model and through Envoy."),
    "plan": ("Policy", "Show what the files change before they are applied, exactly."),
    "diff": ("Policy", "Show what changes between two versions or revisions."),
    "fmt": ("Policy", "Lay out the files in one way; comments stay."),
    "lint": ("Policy", "Say which rules are not needed or too wide, and mend them."),
    "tidy": ("Policy", "Find rules that nothing uses, and take them out."),
    "explain": ("Policy", "Say what the policy decides about a request, and why."),
    "reach": ("Policy", "Show who can reach what, and through whom."),
    "schema": ("Policy", "Print the JSON Schema of the files, for editors."),
    "up": ("Run", "Start a whole mesh on this machine, and keep it running."),
    "control": ("Run", "Run the control plane of a mesh of many hosts."),
    "node": ("Run", "Run this host as a node of a mesh."),
    "apply": ("Run", "Make the files of the mesh what is enforced."),
    "confirm": ("Run", "Let a version stay that was applied on trial."),
    "rollback": ("Run", "Make an earlier version the enforced one again."),
    "history": ("Run", "List the versions: who, why, and what became of them."),
    "show": ("Run", "Show one version, with its files and its signature."),
    "shadow": ("Run", "Ask a second version of the policy beside the enforced one."),
    "grant": ("Run", "Let somebody do something for a while."),
    "grants": ("Run", "List the rules that end: which hold, end soon, are over."),
    "status": ("Run", "Show nodes, the versions they hold or refused, and records."),
    "nodes": ("Run", "List nodes; make join tokens; drain and remove nodes."),
    "quarantine": ("Run", "Take away everything a workload may do, at once."),
    "ca": ("Run", "Create, show and rotate the mesh's certificate authority."),
    "systemd": ("Run", "Print the systemd unit of the control plane or of a node."),
    "run": ("Run", "Run a program as a workload, its calls going through Septum."),
    "audit": ("Look", "Ask the record of decisions."),
    "top": ("Look", "Watch the paths in use: allowed, denied, rates, latency."),
    "completion": ("More", "Print shell completion."),
}

# As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, PIPE_CLOSED = 130, 141


class Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module. Raises click.UsageError for a verb that this installation lacks."""
        if cmd_name not in VERBS:
            return None
        name = f"septum.cli.{cmd_name}"
        try:
            command: click.Command = importlib.import_module(name).command
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise click.UsageError(f"`{cmd_name}` is not part of this installation.", ctx) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest verb for one that does not exist."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command `{args[0]}`.{_hint(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by group, without importing any."""
        for group in dict.fromkeys(group for group, _ in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl([(verb, line) for verb, (of, line) in VERBS.items() if of == group])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs and options that begin so, without importing any verb."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(verb, help=line) for verb, (_, line) in VERBS.items() if verb.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; when who reads its output has gone away, stop without a word, as other programs do."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered must not fail again at exit (Python's documentation of SIGPIPE).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        return result


def _hint(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1)
    return f" Did you mean `{near[0]}`?" if near else ""


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nBegin with:\n  septum init shop && septum -C shop up\n  septum demo",
)
@click.option(
    "-C", "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Work on the mesh in DIR."
)
@click.version_option(__version__, prog_name="septum")
@click.pass_context
def septum(ctx: click.Context, directory: Path | None) -> None:
    """Septum: a segmented access proxy. What no rule allows is denied; every decision is on record."""
    ctx.obj = directory


def main() -> int:
    """Run the command line; the exit status is 0, 1 for findings, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        result = septum.main(standalone_mode=False, prog_name="septum")
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return result if isinstance(result, int) else 0
