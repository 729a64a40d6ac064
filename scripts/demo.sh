#!/bin/sh
# `make demo`: a cloud of one node on this machine, and the walkthrough. Arguments go to `onedock.lab up`.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

if [ "$(id -u)" != 0 ]; then
    printf '==> %s\n' \
        "make demo needs root: it starts a Docker engine and makes network namespaces and a bridge" \
        "run:  sudo make demo      (without root you can run: make test, for the tests that need none; make lint)" >&2
    exit 3
fi
scripts/prepare.sh packages
scripts/prepare.sh venv
exec .venv/bin/python -m onedock.lab demo "$@"
