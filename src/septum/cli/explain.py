"""`septum explain`: what the policy says of one request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from septum.cli import diagnostics
from septum.cli.output import print_json, style, wants_colour
from septum.cli.place import mesh_dir
from septum.control.files import read_mesh_dir
from septum.model.decision import Decision, Request
from septum.model.mesh import Mode
from septum.model.policy import Policy, Rule
from septum.policy.ask import operation_of
from septum.policy.decide import decide
from septum.policy.load import load


@click.command(
    epilog="\b\nExamples:\n  septum explain storefront orders 'GET /orders/42'\n"
    "  septum explain orders payments shop.payments.v1.Payments/Authorize\n  septum explain orders ledger connect"
)
@click.argument("caller", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("operation")
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@click.pass_obj
def command(above: Path | None, caller: str, target: str, operation: str, as_json: bool) -> int:
    """Decide one request by the files as they are: the rule with its line, or the nearest rule and what did not match.

    OPERATION is `METHOD /path`, `package.Service/Method` or `connect`. Exit status 0 when it is allowed, 1 when denied.
    """
    mesh = mesh_dir(above)
    files = read_mesh_dir(mesh)
    policy = load(files).policy
    if policy is None:
        found = load(files)
        click.echo(diagnostics.as_text(found.errors, files, colour=wants_colour()), err=True)
        raise click.ClickException("the policy has errors, so there is no decision")
    workload = policy.mesh.workloads.get(target)
    try:
        request = Request(caller, target, operation_of(operation, workload.protocol if workload else None))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    decision = decide(policy, request)
    if as_json:
        print_json(_json(policy, request, decision))
    else:
        click.echo("\n".join(_lines(policy, request, decision)))
    return 0 if decision.allowed else 1


def _mode(policy: Policy, request: Request) -> Mode | None:
    target = policy.mesh.workloads.get(request.target)
    return policy.mesh.mode(target) if target else None


def _lines(policy: Policy, request: Request, decision: Decision) -> list[str]:
    verdict = style("allow", fg="green", bold=True) if decision.allowed else style("deny", fg="red", bold=True)
    lines = [f"{verdict}  {request.caller} -> {request.target}  {request.operation}"]
    if decision.rule is not None:
        lines.append(f"  rule     {_rule(decision.rule)}")
        if decision.rule.because:
            lines.append(f"  because  {decision.rule.because}")
    elif decision.nearest is not None:
        if decision.nearest.rule is not None:
            lines.append(f"  nearest  {_rule(decision.nearest.rule)}")
        lines.append(f"  missing  {decision.nearest.mismatch}")
    if not decision.allowed and _mode(policy, request) is Mode.OBSERVE:
        lines.append(
            f"  mode     observe: `{request.target}` is not enforced, so it passes and is recorded as a would-be denial"
        )
    return lines


def _rule(rule: Rule) -> str:
    return f"{rule.id}  {rule.span.place if rule.span else ''}"


def _json(policy: Policy, request: Request, decision: Decision) -> dict[str, Any]:
    nearest = decision.nearest
    return {
        "decision": str(decision.effect),
        "caller": request.caller,
        "target": request.target,
        "operation": str(request.operation),
        "mode": _mode(policy, request),
        "rule": _rule_json(decision.rule),
        "nearest": _rule_json(nearest.rule) if nearest else None,
        "mismatch": nearest.mismatch if nearest else None,
        "policy_version": decision.policy_version,
    }


def _rule_json(rule: Rule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    return {
        "id": rule.id,
        "file": rule.span.file if rule.span else None,
        "line": rule.span.line if rule.span else None,
        "because": rule.because,
    }
