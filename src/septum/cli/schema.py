"""`septum schema`: what editors complete from."""

from __future__ import annotations

import click

from septum.cli.output import print_json
from septum.policy.schema import KINDS, schema


@click.command(
    epilog="\b\nExample:\n  septum schema policy > policy.schema.json\n"
    "  # then, as the first line of a policy file:\n"
    "  # yaml-language-server: $schema=../policy.schema.json"
)
@click.argument("kind", type=click.Choice(list(KINDS)))
def command(kind: str) -> int:
    """Print the JSON Schema of septum.yaml (mesh), policy/*.yaml (policy) or policy/*_test.yaml (test)."""
    print_json(schema(kind))
    return 0
