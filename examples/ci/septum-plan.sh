#!/bin/sh
# What a branch does to the policy, for a pull or merge request: checks, tests, and plans against the merge base.
#
#   septum-plan.sh [MESH [TARGET]]      MESH: its directory (.); TARGET: the branch to merge into (origin/main)
#
# SEPTUM_FAIL_ON   what makes it fail besides errors, broken guarantees and failed tests: "widen narrow"; nothing
#                  unless it is set
# SEPTUM_OUT       where plan.md (for a comment) and plan.sarif (for code scanning) go; the current directory
#
# The clone needs the history up to the merge base. Exit status: 0, 1 when something failed, 2 when nothing could be
# compared.
set -eu

mesh=${1:-.}
target=${2:-origin/main}
out=${SEPTUM_OUT:-.}

base=$(git -C "$mesh" merge-base "$target" HEAD) || {
    echo "no merge base with $target: fetch it, with its history (git fetch --unshallow; fetch-depth: 0)" >&2
    exit 2
}

set --
for what in ${SEPTUM_FAIL_ON:-}; do
    set -- "$@" --fail-on "$what"
done

status=0
worse() { [ "$1" -le "$status" ] || status=$1; }

septum check "$mesh" || worse $?
septum -C "$mesh" plan --against "git:$base" --format sarif >"$out/plan.sarif" 2>/dev/null || worse $?
septum -C "$mesh" plan --against "git:$base" --format markdown "$@" >"$out/plan.md" || worse $?
if [ -n "$(find "$mesh/policy" -name '*_test.yaml' -o -name '*.md')" ]; then
    septum -C "$mesh" test || worse $?
fi
exit "$status"
