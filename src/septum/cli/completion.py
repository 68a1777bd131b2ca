"""`septum completion`: shell completion, as click makes it."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog='\b\nExamples:\n  eval "$(septum completion bash)"\n'
    "  septum completion fish > ~/.config/fish/completions/septum.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print what completes septum's verbs and options in SHELL."""
    from septum.cli.main import septum

    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    click.echo(kind(septum, {}, "septum", "_SEPTUM_COMPLETE").source())
    return 0
