#!/bin/sh
# Renews requirements*.txt from requirements*.in: the newest versions, each with the hashes of all its files and no registry's address.
set -eu
cd "$(dirname "$0")/.."
# The oldest Python that is supported: what only it needs would be left out by a newer one.
python3.11 -c 'import ensurepip, venv' 2>/dev/null || { echo "pins are made with Python 3.11: apt-get install python3.11 python3.11-venv" >&2; exit 1; }
venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
python3.11 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check pip-tools
for name in requirements requirements-dev; do
    echo "pinning $name.in"
    CUSTOM_COMPILE_COMMAND="make pins" "$venv/bin/pip-compile" --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o "$name.txt" "$name.in"
done
