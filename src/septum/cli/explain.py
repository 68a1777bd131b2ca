"""`septum explain`: what the policy says of one request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from septum.cli import diagnostics
from septum.cli.output import print_json, style, wants_colour
from septum.cli.place import mesh_dir, seen_from_here
from septum.control.files import read_mesh_dir
from septum.model.decision import Decision, Request
from septum.model.mesh import Mode, Workload
from septum.model.operation import RefusedOperation
from septum.model.policy import Policy, Rule
from septum.policy.ask import operation_of
from septum.policy.decide import decide
from septum.policy.load import load


class NoDecisionError(click.ClickException):
    """There is nothing to decide by; 1 would mean that the request is denied."""

    exit_code = 2


@click.command(
    epilog="\b\nExamples:\n  septum explain storefront orders 'GET /orders/42'\n"
    "  septum explain orders payments shop.payments.v1.Payments/Authorize\n  septum explain orders ledger connect\n"
    "  septum explain desk orders 'POST /orders/7/refund' --claim iss=https://login.shop.test "
    "--claim 'groups=[\"support\"]'"
)
@click.argument("caller", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("operation")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda _ctx, _param, given: _claims(given),
    help="A claim of the end user's verified token: JSON, or else text. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@click.pass_obj
def command(
    above: Path | None, caller: str, target: str, operation: str, claims: dict[str, object], as_json: bool
) -> int:
    """Decide one request by the files as they are: the rule with its line, or the nearest rule and what did not match.

    OPERATION is `METHOD /path`, `package.Service/Method` or `connect`. Exit status 0 when it is allowed, 1 when denied,
    2 when there is no decision.
    """
    mesh = mesh_dir(above)
    policy = _policy(mesh)
    request = _request(policy, caller, target, operation, claims)
    decision = decide(policy, request)
    if as_json:
        print_json(_json(policy, request, decision))
    else:
        click.echo("\n".join(_lines(policy, request, decision, seen_from_here(mesh))))
    return 0 if decision.allowed else 1


def _policy(mesh: Path) -> Policy:
    files = read_mesh_dir(mesh)
    loaded = load(files)
    if loaded.policy is None:
        text = diagnostics.as_text(loaded.errors, files, colour=wants_colour(), before=seen_from_here(mesh))
        click.echo(text + "\n", err=True)
        raise NoDecisionError("the policy has errors, so there is no decision")
    return loaded.policy


def _claims(given: tuple[str, ...]) -> dict[str, object]:
    """Claims as they are written on a command line. Raises click.BadParameter."""
    claims: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"`{text}` is no claim: write NAME=VALUE, such as groups='[\"support\"]'")
        try:
            claims[name] = json.loads(value)
        except ValueError:
            claims[name] = value
    return claims


def _request(policy: Policy, caller: str, target: str, operation: str, claims: dict[str, object]) -> Request:
    known = policy.mesh.target(target)
    try:
        return Request(caller, target, operation_of(operation, known.protocol if known else None), claims)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _lines(policy: Policy, request: Request, decision: Decision, before: str) -> list[str]:
    verdict = style("allow", fg="green", bold=True) if decision.allowed else style("deny", fg="red", bold=True)
    lines = [f"{verdict}  {request.caller} -> {request.target}  {request.operation}"]
    if decision.rule is not None:
        lines += _rule_lines("rule", decision.rule, before)
    elif decision.nearest is not None:
        if decision.nearest.rule is not None:
            lines += _rule_lines("nearest", decision.nearest.rule, before)
        lines.append(f"  reason   {decision.nearest.mismatch}")
    mode = _mode(policy, request)
    return [*lines, f"  mode     {_consequence(policy, request, decision, mode)}"] if mode else lines


def _rule_lines(what: str, rule: Rule, before: str) -> list[str]:
    place = f"  {before}{rule.span.place}" if rule.span else ""
    because = [f"  because  {rule.because}"] if rule.because else []
    return [f"  {what:<7}  {rule.id}{place}", *because]


def _mode(policy: Policy, request: Request) -> Mode | None:
    target = policy.mesh.target(request.target)
    return policy.mesh.mode(target) if target else None


def _consequence(policy: Policy, request: Request, decision: Decision, mode: Mode) -> str:
    """What the mode makes of the decision."""
    if isinstance(request.operation, RefusedOperation):
        return f"{mode}: the proxy refuses it before any rule is asked"
    if decision.allowed or mode is Mode.ENFORCE:
        return str(mode)
    target = policy.mesh.targets[request.target]
    observed = target.segment if isinstance(target, Workload) and target.mode is None else target.name
    return f"{mode}: it would be denied, and passes because `{observed}` is observed"


def _json(policy: Policy, request: Request, decision: Decision) -> dict[str, Any]:
    nearest = decision.nearest
    return {
        "decision": str(decision.effect),
        "caller": request.caller,
        "target": request.target,
        "operation": str(request.operation),
        "claims": dict(request.claims),
        "mode": _mode(policy, request),
        "rule": _rule_json(decision.rule),
        "nearest": _rule_json(nearest.rule) if nearest else None,
        "reason": nearest.mismatch if nearest else None,
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
