"""A plan as a file: JSON with the format's number and a digest, so that no other or altered plan is taken for it."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import msgspec

from septum.plan.plan import Plan

FORMAT = 1


class PlanError(ValueError):
    """A text that is no plan of this format; the message says why and what to do."""


def to_json(plan: Plan) -> str:
    """The plan as JSON: `format`, `digest`, and the plan's own fields."""
    value = {"format": FORMAT, "digest": digest_of(plan), **_value(plan)}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Plan:
    """Read what `to_json` wrote. Raises PlanError for anything else, also where a part of it was altered."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PlanError(f"this is not JSON: {error}") from error
    if not isinstance(value, dict) or "format" not in value:
        raise PlanError("this is no plan; `septum plan --out FILE` writes one")
    if value["format"] != FORMAT:
        raise PlanError(f"this plan has format {value['format']}, and this Septum reads {FORMAT}; plan again with it")
    digest, content = value.pop("digest", None), {key: part for key, part in value.items() if key != "format"}
    try:
        plan = msgspec.convert(content, Plan, strict=True)
    except msgspec.ValidationError as error:
        raise PlanError(f"this plan was altered, so it is not what was planned: {error}") from error
    if _value(plan) != content or digest_of(plan) != digest:
        raise PlanError("this plan was altered, so it is not what was planned; plan again")
    return plan


def digest_of(plan: Plan) -> str:
    """SHA-256 (hex) over all that a plan says."""
    canonical = json.dumps(_value(plan), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(f"septum plan {FORMAT}\n{canonical}".encode()).hexdigest()


def _value(plan: Plan) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(msgspec.json.encode(plan))
    return value
