"""pytest's side on this machine: tests whose kernel features are missing here run in a guest, and count as usual."""

from collections import Counter
from pathlib import Path

import pytest
from tests.support import kernel
from tests.support.guest import images
from tests.support.guest.batch import Batch
from tests.support.guest.preparation import Preparation


class InGuest:
    """A plugin of pytest. A guest runs all its tests in one go, beside the tests of this machine.

    Their reports are what the guest's pytest said: failures read as if they had happened here. They come late, when
    the guest has had its time, but not last: the fixtures of the whole run end with a test of this machine.
    """

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._by_item: dict[str, Batch] = {}
        self._here: Counter[str] = Counter()
        self._preparation: Preparation | None = None
        self._file: Path | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        why_not = images.why_not()
        for item in items:
            features = kernel.needed(item)
            if all(map(kernel.is_here, features)):
                self._here.update(features)
            elif why_not is not None:
                item.add_marker(pytest.mark.skip(f"no {', '.join(sorted(features))} on this machine; {why_not}"))
            else:
                init = "systemd" if "systemd" in features else "script"
                batch = self._by_item[item.nodeid] = self._batches.setdefault(init, Batch(init))
                batch.items.append(item.nodeid)
                batch.features |= features
                item.add_marker(pytest.mark.timeout(0), append=False)  # the guest has a deadline of its own
        remote = [item for batch in self._batches.values() for item in items if self._by_item.get(item.nodeid) is batch]
        here = [item for item in items if item.nodeid not in self._by_item]
        last_file = [item for item in here if item.path == here[-1].path]
        items[:] = [*here[: len(here) - len(last_file)], *remote, *last_file]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        if self._batches and not session.config.option.collectonly:
            self._preparation = Preparation()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        batch = self._by_item.get(item.nodeid)
        # Between two files: tests compare what is on this machine before and after them.
        if item.path != self._file and self._preparation is not None and (batch or self._preparation.ready()):
            self._boot(self._preparation)
        self._file = item.path
        if batch is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in batch.reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if item.nodeid == batch.items[-1]:
            batch.close()
        return True

    def pytest_sessionfinish(self) -> None:
        """Also when the run was ended early."""
        if self._preparation is not None:
            self._preparation.close()
        for batch in self._batches.values():
            batch.close()

    def _boot(self, preparation: Preparation) -> None:
        """Start all guests, at once."""
        self._preparation = None
        try:
            made = preparation.images()
        except RuntimeError as error:
            for batch in self._batches.values():
                batch.give_up(str(error))
        else:
            for batch in self._batches.values():
                batch.boot(made)
        finally:
            preparation.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for feature, count in sorted(self._here.items()):
            terminalreporter.write_line(f"on this machine's kernel: {count} tests of {feature}")
        for batch in self._batches.values():
            terminalreporter.write_line(batch.summary())
