#!/bin/sh
# `make demo`: a cloud of one node on this machine, and the walkthrough; demo.sh demo|down|status, then options.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

command=$1
shift
if [ "$(id -u)" != 0 ]; then
    printf '==> %s\n' \
        "make demo, demo-stop and demo-status need root: a Docker engine, network namespaces and a bridge" \
        "run:  sudo make demo      (without root you can run: make test, for the tests that need none; make lint)" >&2
    scripts/prepare.sh packages || true
    exit 3
fi
if [ "$command" = demo ]; then
    scripts/prepare.sh packages
    scripts/prepare.sh venv
elif [ ! -x .venv/bin/python ]; then
    echo "==> there is no demo in this checkout"
    exit 0
fi
exec .venv/bin/python -m onedock.lab "$command" "$@"
