"""Samples, their percentiles, and the rows of the report. Only ratios within one run mean anything."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TICKS_PER_S = 100.0
"""Of /proc/<pid>/stat (USER_HZ, fixed on Linux)."""


@dataclass(frozen=True, slots=True)
class Series:
    """Measurements of one thing, in seconds unless the row says otherwise."""

    samples: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Nearest rank: a value that was really measured."""
        ranked = sorted(self.samples)
        return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


Unit = Literal["ms", "s", "MiB", "%"]
_FACTOR = {"ms": 1000.0, "s": 1.0, "MiB": 1.0, "%": 1.0}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report."""

    what: str
    series: Series
    unit: Unit = "ms"
    baseline: Series | None = None
    """Measured alternately with ``series``; the ratio is that of the medians."""
    goal: float | None = None
    """Upper bound of the ratio, or where there is no baseline of the value in ``unit``."""
    goal_of: Literal["ratio", "p50", "p99"] = "ratio"

    @property
    def ratio(self) -> float | None:
        return None if self.baseline is None else self.series.median / self.baseline.median

    def shown(self, seconds: float) -> str:
        """A value in the row's unit."""
        value = seconds * _FACTOR[self.unit]
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None: there is none."""
        if self.goal is None:
            return None
        if self.goal_of == "ratio":
            return self.ratio is not None and self.ratio <= self.goal
        value = self.series.median if self.goal_of == "p50" else self.series.percentile(99)
        return value * _FACTOR[self.unit] <= self.goal


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    title: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def series(samples: Sequence[float]) -> Series:
    """The samples, frozen. ValueError when there are none."""
    if not samples:
        raise ValueError("nothing was measured")
    return Series(tuple(samples))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mib(pid: int, name: Literal["VmRSS", "VmHWM"] = "VmRSS") -> float:
    """Resident memory of a process now, or at most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


class Stopwatch:
    """``with Stopwatch() as watch: …``; then ``watch.seconds``."""

    def __enter__(self) -> "Stopwatch":
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
