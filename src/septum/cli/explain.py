"""`septum explain`: what the policy says of one request, or of all that one may ask of another."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from septum.cli import drawing
from septum.cli.edge_text import operations, rule_json
from septum.cli.moment import MOMENT
from septum.cli.named import callers_named, targets_named
from septum.cli.output import print_json, style
from septum.cli.place import mesh_dir, seen_from_here
from septum.cli.valid_policy import valid_policy
from septum.model.decision import Decision, Request
from septum.model.mesh import Mode, Workload
from septum.model.operation import RefusedOperation
from septum.model.policy import Policy, Rule
from septum.model.window import time_text
from septum.policy.ask import operation_of
from septum.policy.decide import decide
from septum.policy.times import window_text
from septum.verify.conditions import when_text
from septum.verify.reach import Edge


@click.command(
    epilog="\b\nExamples:\n  septum explain storefront orders 'GET /orders/42'\n"
    "  septum explain orders payments shop.payments.v1.Payments/Authorize\n  septum explain orders ledger connect\n"
    "  septum explain desk orders 'POST /orders/7/refund' --claim iss=https://login.shop.test "
    "--claim 'groups=[\"support\"]'\n  septum explain desk orders --at 2027-02-01T00:00:00Z"
)
@click.argument("caller", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("operation", required=False)
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda _ctx, _param, given: _claims(given),
    help="A claim of the end user's verified token: JSON, or else text. May be repeated.",
)
@click.option("--at", type=MOMENT, metavar="TIME", help="When it is asked, such as 2027-01-31T00:00:00Z; else now.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "dot", "json"]),
    default="tree",
    help="Lines, or JSON; without OPERATION also a drawing for a page (Mermaid, Graphviz).",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_obj
def command(
    above: Path | None,
    caller: str,
    target: str,
    operation: str | None,
    claims: dict[str, object],
    at: float | None,
    form: str,
    as_json: bool,
) -> int:
    """Decide one request by the files as they are: the rule with its line, or the nearest rule and what did not match.

    OPERATION is `METHOD /path`, `package.Service/Method` or `connect`. Without it: everything that FROM may ask of TO,
    rule by rule. Exit status 0 when it is allowed, 1 when denied, 2 when there is no decision.
    """
    form = "json" if as_json else form
    moment = time.time() if at is None else at
    if operation is None:
        if claims:
            raise click.UsageError("--claim goes with an OPERATION")
        mesh = mesh_dir(above)
        return _pair(valid_policy(mesh, _NO_DECISION), caller, target, moment, form, seen_from_here(mesh))
    if form in ("mermaid", "dot"):
        raise click.UsageError(f"one request is no drawing: leave OPERATION out, or --format {form}")
    mesh = mesh_dir(above)
    policy = valid_policy(mesh, _NO_DECISION)
    request = _request(policy, caller, target, operation, claims, moment)
    decision = decide(policy, request)
    if form == "json":
        print_json(_json(policy, request, decision, moment))
    else:
        click.echo("\n".join(_lines(policy, request, decision, seen_from_here(mesh))))
    return 0 if decision.allowed else 1


_NO_DECISION = "there is no decision"


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


def _request(policy: Policy, caller: str, target: str, operation: str, claims: dict[str, object], at: float) -> Request:
    known = policy.mesh.target(target)
    try:
        return Request(caller, target, operation_of(operation, known.protocol if known else None), claims, at)
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
    mode = _mode(policy, request.target)
    return [*lines, f"  mode     {_consequence(policy, request, decision, mode)}"] if mode else lines


def _rule_lines(what: str, rule: Rule, before: str) -> list[str]:
    place = f"  {before}{rule.span.place}" if rule.span else ""
    window = [f"  holds    {window_text(rule.window)}"] if rule.window is not None else []
    because = [f"  because  {rule.because}"] if rule.because else []
    return [f"  {what:<7}  {rule.id}{place}", *window, *because]


def _mode(policy: Policy, name: str) -> Mode | None:
    target = policy.mesh.target(name)
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


def _json(policy: Policy, request: Request, decision: Decision, at: float) -> dict[str, Any]:
    nearest = decision.nearest
    return {
        "decision": str(decision.effect),
        "caller": request.caller,
        "target": request.target,
        "operation": str(request.operation),
        "claims": dict(request.claims),
        "at": time_text(at),
        "mode": _mode(policy, request.target),
        "rule": rule_json(decision.rule) if decision.rule else None,
        "nearest": rule_json(nearest.rule) if nearest and nearest.rule else None,
        "reason": nearest.mismatch if nearest else None,
        "policy_version": decision.policy_version,
    }


def _pair(policy: Policy, caller: str, target: str, at: float, form: str, before: str) -> int:
    """Everything that one may ask of another, also by rules whose time it is not."""
    (start,), (end,) = _one(callers_named(caller, policy.mesh)), _one(targets_named(target, policy.mesh))
    rules = [rule for rule in policy.rules_to[end] if start in rule.callers]
    holding = [rule for rule in rules if _holds(rule, at)]
    edges = [Edge(start, end, tuple(holding))] if holding else []
    match form:
        case "json":
            print_json(_pair_json(policy, start, end, rules, at))
        case "mermaid":
            click.echo("\n".join(drawing.mermaid(edges, policy.mesh)))
        case "dot":
            click.echo("\n".join(drawing.dot(edges, policy.mesh)))
        case _:
            click.echo("\n".join(_pair_lines(policy, start, end, rules, at, before)))
    return 0 if holding else 1


def _one(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 1:
        raise click.UsageError("explain is about one caller and one target; `septum reach` takes segments")
    return names


def _holds(rule: Rule, at: float) -> bool:
    return rule.window is None or rule.window.holds(at)


def _pair_lines(policy: Policy, caller: str, target: str, rules: list[Rule], at: float, before: str) -> list[str]:
    open_to = any(_holds(rule, at) for rule in rules)
    verdict = style("allow", fg="green", bold=True) if open_to else style("deny", fg="red", bold=True)
    lines = [f"{verdict}  {caller} -> {target}" + ("" if open_to else "  whatever it asks")]
    if not rules:
        named = f"names {caller} as a caller of" if policy.rules_to[target] else "opens anything on"
        lines.append(f"  reason   no rule {named} {target}")
    for rule in rules:
        lines += _pair_rule(rule, at, before)
    return [*lines, f"  mode     {_mode(policy, target)}"]


def _pair_rule(rule: Rule, at: float, before: str) -> list[str]:
    """A rule with all that it opens, and when it does."""
    head, *further = _rule_lines("rule", rule, before)
    when = [f"  when     {when_text(rule.when)}"] if rule.when is not None else []
    if rule.window is not None and not rule.window.holds(at):
        further[0] += " (over)" if rule.window.over(at) else " (not yet)"
    first, *others = operations(rule)
    return [head, f"  opens    {first}", *(f"           {other}" for other in others), *when, *further]


def _pair_json(policy: Policy, caller: str, target: str, rules: list[Rule], at: float) -> dict[str, Any]:
    return {
        "caller": caller,
        "target": target,
        "at": time_text(at),
        "mode": _mode(policy, target),
        "rules": [rule_json(rule) | {"holds": _holds(rule, at)} for rule in rules],
        "policy_version": policy.version,
    }
