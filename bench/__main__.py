"""``python -m bench [names…] [--write]``: run the benchmarks, show the table, write it into docs/benchmarks.md."""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from bench import deploy, drivers, events, hotplug, networks, rules, scale
from bench.measure import Report
from bench.report import show, write

BENCHMARKS: dict[str, Callable[[], Awaitable[Report]]] = {
    "deploy": deploy.one_by_one,
    "burst": deploy.at_once,
    "events": events.deaths,
    "drivers": drivers.round_trips,
    "hotplug": hotplug.changes,
    "networks": networks.many_vms,
    "rules": rules.thousand_rules,
    "1000": scale.thousand,
    "10000": scale.ten_thousand,
}


async def _run(names: list[str]) -> list[Report]:
    reports = []
    for name in names:
        started = time.monotonic()
        report = await BENCHMARKS[name]()
        report.seconds = time.monotonic() - started
        show(report)
        reports.append(report)
    return reports


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    reports = asyncio.run(_run(arguments.names or list(BENCHMARKS)))
    if arguments.write:
        write(reports)


main()
