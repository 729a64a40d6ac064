"""Tests that share one guest, as their reports arrive."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.guest.images import Images
from tests.support.guest.machine import Guest


class Batch:
    """Node ids for one guest, which runs all of them in one go."""

    def __init__(self, init: str) -> None:
        self.items: list[str] = []
        self.features: set[str] = set()
        self._init = init
        self._guest: Guest | None = None
        self._messages: Iterator[dict[str, Any]] = iter(())
        self._waiting: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._broken: list[str] = []
        self._kernel = "no kernel"
        self._outcomes: Counter[str] = Counter()
        self._seconds = 0.0

    def boot(self, images: Images) -> None:
        """Start the guest."""
        self._guest = Guest(images, self.items, init=self._init)
        self._messages = self._guest.messages()

    def give_up(self, why: str) -> None:
        """There will be no guest."""
        self._broken.append(why)

    def reports(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Those of one test as they arrive; instead of what never comes, a failure that says why."""
        for data in self._arriving(item.nodeid):
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            self._count(report)
            yield report
            if report.when == "teardown":
                return
        lost = "the guest ended without a result of this test"
        if not self._outcomes["lost"]:
            lost = "\n".join([lost, *self._broken, *([self._guest.last_words()] if self._guest else [])])
        yield pytest.TestReport(item.nodeid, item.location, {}, outcome="failed", longrepr=lost, when="call")
        self._outcomes["lost"] += 1

    def close(self) -> None:
        """End the guest."""
        if self._guest is not None:
            self._guest.close()

    def summary(self) -> str:
        """A line for people: where, how long, what."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items())) or "nothing run"
        where = f"Linux {self._kernel}{', systemd' if self._init == 'systemd' else ''}"
        needed = ", ".join(sorted(self.features))
        return f"in the guest ({where}, {self._seconds:.0f} s): {counts}: {needed}"

    def _arriving(self, nodeid: str) -> Iterator[dict[str, Any]]:
        yield from self._waiting.pop(nodeid, [])
        for message in self._messages:
            self._seconds = message["at"]
            match message:
                case {"kernel": kernel}:
                    self._kernel = kernel
                case {"broken": text}:
                    self._broken.append(text)
                case {"report": report} if report["nodeid"] == nodeid:
                    yield report
                case {"report": report}:
                    self._waiting[report["nodeid"]].append(report)

    def _count(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[report.outcome] += 1
