"""The guest's side of the wire: every report of pytest as a line of JSON."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

WIRE = "ONEDOCK_GUEST_REPORTS"
"""Environment variable with the device that takes the lines; it is set in a guest and nowhere else."""


class Reporter:
    """A plugin of pytest in the guest. Messages: ``kernel``, ``report``, ``broken`` (collection)."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._wire = Path(os.environ[WIRE]).open("w")  # noqa: SIM115 - as long as the guest
        self._send(kernel=os.uname().release)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send(report=self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send(broken=f"{report.nodeid}: {report.longreprtext}")

    def _send(self, **message: Any) -> None:
        message["at"] = time.monotonic()  # seconds since it booted
        self._wire.write(json.dumps(message) + "\n")
        self._wire.flush()
