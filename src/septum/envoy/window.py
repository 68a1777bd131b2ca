"""When a rule holds: its window, as Envoy compares it with the start of a request by the clock of its own host.

In CEL, because no other input of a matcher knows the time, and as a syntax tree, because Envoy takes no CEL in text.
The start of a request is when its first bytes came, of a session when its CONNECT did; a record has the same as its
time.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from cel.expr.syntax_pb2 import Constant, Expr, ParsedExpr
from xds.type.matcher.v3.cel_pb2 import CelMatcher
from xds.type.matcher.v3.http_inputs_pb2 import HttpAttributesCelMatchInput
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.v3.cel_pb2 import CelExpression

from septum.envoy.wire import matching
from septum.model.window import Window

_REQUEST = matching("request", HttpAttributesCelMatchInput())
# `int(request.time)`: whole seconds since 1970, parts of a second cut off, as those of a window are.
_TIME = Expr(select_expr=Expr.Select(operand=Expr(ident_expr=Expr.Ident(name="request")), field="time"))
_SECONDS = Expr(call_expr=Expr.Call(function="int", args=[_TIME]))


def inside(window: Window) -> Any:
    """That a request starts in the window, as a predicate. What Envoy cannot work out does not hold."""
    made = CelMatcher(expr_match=CelExpression(cel_expr_parsed=ParsedExpr(expr=_holds(window))))
    single = Matcher.MatcherList.Predicate.SinglePredicate(input=_REQUEST, custom_match=matching("window", made))
    return Matcher.MatcherList.Predicate(single_predicate=single)


def is_window(predicate: Any) -> bool:
    """Whether a predicate is what `inside` makes of some window, and nothing else."""
    made = CelMatcher()
    if not predicate.single_predicate.custom_match.typed_config.Unpack(made):
        return False
    asked = made.expr_match.cel_expr_parsed.expr.call_expr
    bounds = [bound.call_expr for bound in asked.args] if asked.function == "_&&_" else [asked]
    found = {bound.function: bound.args[-1].const_expr.int64_value for bound in bounds if bound.args}
    window = Window(found.get("_>=_"), found.get("_<_"))
    return window != Window() and bool(predicate == inside(window))


def _holds(window: Window) -> Expr:
    bounds = [
        _call(comparison, _SECONDS, Expr(const_expr=Constant(int64_value=seconds)))
        for comparison, seconds in (("_>=_", window.from_time), ("_<_", window.until))
        if seconds is not None
    ]
    assert bounds, "a window that is open on both sides is none"
    return reduce(lambda one, other: _call("_&&_", one, other), bounds)


def _call(function: str, *arguments: Expr) -> Expr:
    return Expr(call_expr=Expr.Call(function=function, args=arguments))
