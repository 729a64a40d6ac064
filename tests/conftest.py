"""Fixtures of the whole suite: one engine and one registry per run, and the proof that nothing is left."""

import os
from collections.abc import Generator, Iterator
from typing import Protocol, runtime_checkable

import hypothesis
import pytest
from tests.support import engine as engines
from tests.support import registry as registries
from tests.support.engine import PrivateEngine
from tests.support.guest.plugin import InGuest
from tests.support.guest.reporter import WIRE, Reporter
from tests.support.leaks import assert_nothing_leaked, snapshot
from tests.support.registry import PrivateRegistry


def pytest_configure(config: pytest.Config) -> None:
    """Tests of what this kernel lacks run in a guest, whose pytest comes by here as well."""
    config.pluginmanager.register(Reporter(config) if WIRE in os.environ else InGuest())
    # The same examples in every run, however busy the machine is. Hypothesis' plugin would import it late, for the
    # summary, and that can fail in Python 3.11.
    hypothesis.settings.register_profile("onedock", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("onedock")


@runtime_checkable
class Teller(Protocol):
    """What a test uses that has logs: agents, clouds."""

    def story(self) -> str:
        """The ends of its logs."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its agents and controllers logged."""
    report = yield
    if report.failed and report.when != "teardown":
        stories = [one.story() for one in item.funcargs.values() if isinstance(one, Teller)]
        report.sections += [(f"logs at the end of {report.when}", story) for story in stories]
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fails the run when processes, namespaces, links, mounts, control groups or directories are left."""
    before = snapshot()
    yield
    assert_nothing_leaked(before, snapshot())


@pytest.fixture(scope="session")
def engine(nothing_leaks: None) -> Iterator[PrivateEngine]:
    """A Docker engine for this run. Tests remove their own containers."""
    if reason := engines.why_not():
        pytest.skip(reason)
    with PrivateEngine() as private:
        yield private


@pytest.fixture(scope="session")
def registry(engine: PrivateEngine) -> Iterator[PrivateRegistry]:
    """A registry that has the same address here and for ``engine``."""
    if reason := registries.why_not():
        pytest.skip(reason)
    with PrivateRegistry(reachable_in=(engine.netns,)) as private:
        yield private
