"""pytest's side on this machine: tests whose kernel features are missing here run in a guest, and count as usual."""

from collections import Counter

import pytest
from tests.support import kernel
from tests.support.guest import images
from tests.support.guest.batch import Batch


class InGuest:
    """A plugin of pytest. Its tests come first, so that a guest runs all of them in one go and is gone then.

    Their reports are what the guest's pytest said: failures read as if they had happened here.
    """

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}
        self._by_item: dict[str, Batch] = {}
        self._here: Counter[str] = Counter()

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
        items[:] = [*remote, *(item for item in items if item.nodeid not in self._by_item)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Before the first test, as that may have a deadline: make the images, and start all guests at once."""
        if self._batches and not session.config.option.collectonly:
            terminal = session.config.pluginmanager.get_plugin("terminalreporter")
            made = images.prepare(terminal.write_line if terminal else print)
            for batch in self._batches.values():
                batch.boot(made)

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        batch = self._by_item.get(item.nodeid)
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
        for batch in self._batches.values():
            batch.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for feature, count in sorted(self._here.items()):
            terminalreporter.write_line(f"on this machine's kernel: {count} tests of {feature}")
        for batch in self._batches.values():
            terminalreporter.write_line(batch.summary())
