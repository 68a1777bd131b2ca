"""The `septum` command: verbs by name, loaded when they are used, so that `--help` and short verbs start fast."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from septum import __version__

# Verb → (group of the help page, one line).
VERBS: dict[str, tuple[str, str]] = {
    "init": ("Start", "Write a commented starting mesh into a directory."),
    "demo": ("Start", "Run the example shop behind Septum, with a live view."),
    "check": ("Policy", "Check the mesh and its policy; every finding at once."),
    "explain": ("Policy", "Say what the policy decides about one request, and why."),
    "schema": ("Policy", "Print the JSON Schema of the files, for editors."),
    "up": ("Run", "Start the control plane and Envoy, and keep them running."),
    "apply": ("Run", "Make the files of the mesh what is enforced."),
    "status": ("Run", "Show nodes, the versions they hold or refused, and records."),
    "run": ("Run", "Run a program as a workload, its calls going through Septum."),
    "audit": ("Look", "Ask the record of decisions."),
    "top": ("Look", "Watch the paths in use: allowed, denied, rates, latency."),
    "completion": ("More", "Print shell completion."),
}


class Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"septum.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest verb for one that does not exist."""
        import difflib

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"There is no command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by group, without importing any."""
        for group in dict.fromkeys(group for group, _ in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl([(verb, line) for verb, (of, line) in VERBS.items() if of == group])


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
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
