#!/bin/sh
# `make test`: the whole suite as root; without root, what needs none. Arguments go to pytest.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

scripts/prepare.sh venv
if [ "$(id -u)" = 0 ]; then
    scripts/prepare.sh packages
    exec .venv/bin/python -m pytest "$@"
fi
printf '==> %s\n' \
    "not root: tests of the kernel, the engine and the demo are left out (network namespaces, mounts, dockerd)" \
    "for all of them:  sudo make test"
scripts/prepare.sh packages || true
exec .venv/bin/python -m pytest -m "not root and not engine" tests/unit "$@"
