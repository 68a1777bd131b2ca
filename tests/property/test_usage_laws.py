"""A law of usage: the quick count covers what `opening` says, path by path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import strategies
from septum.audit.usage import ways
from septum.model.operation import HttpOperation
from septum.policy.upkeep.cuts import stem
from septum.verify.coverage import opening


@given(st.data())
def test_an_operation_counts_a_call_just_where_it_opens_it(data: st.DataObject) -> None:
    mesh = data.draw(strategies.meshes())
    policy = data.draw(strategies.policies(mesh))
    counts, found = ways(policy, None)
    operation = data.draw(strategies.operations().filter(lambda one: isinstance(one, HttpOperation)))
    for rule in policy.rules:
        for name in rule.targets:
            expected = set(opening(rule, mesh.targets[name], operation))
            counted = {
                text
                for (rule_id, text), count in counts.items()
                for methods, covers, its in found[stem(rule.id), name]
                if its is count and rule_id == rule.id and operation.method in methods and covers(operation.path)
            }
            assert counted == expected, (rule.id, name)
