"""Agents that serve one test after the other: to start and end one takes ten times as long as what most do with it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.leaks import assert_nothing_leaked, snapshot


class KeptAgents:
    """``with KeptAgents() as kept:`` lends agents that are as new ones; at the end nothing of them is left."""

    def __init__(self) -> None:
        self._free: list[PrivateAgent] = []

    def __enter__(self) -> Self:
        self._before = snapshot()
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self._free:
            agent.close()
        assert_nothing_leaked(self._before, snapshot())

    @contextmanager
    def lent(self) -> Iterator[PrivateAgent]:
        """An agent for one test, which removes its VMs. AssertionError: something of VMs is left in the node.

        Links of the test itself are removed here. An agent that was left in disorder is not lent again.
        """
        agent = self._free.pop() if self._free else PrivateAgent().__enter__()
        try:
            if not agent.alive:
                agent.start()
            agent.log.write_bytes(b"")
            yield agent
            if agent.alive:
                processes.wait_until(lambda: not processes.descendants(agent.pid), within=20, what="its programs end")
            left = [*made_by(agent), *_tables(agent), *_files(agent), *_namespaces(agent)]
            assert not left, f"left behind by the agent: {', '.join(left)}"
            _remove_links(agent)
        except BaseException as error:
            error.add_note(agent.story())
            agent.close()
            raise
        self._free.append(agent)


def made_by(agent: PrivateAgent) -> list[str]:
    """Names of the links in the agent's namespace that say that they are an agent's."""
    return [link["ifname"] for link in agent.ip("link") if link.get("ifalias", "").startswith("onedock")]


def _namespaces(agent: PrivateAgent) -> list[str]:
    """Namespaces with a name to which a link of the agent's has ever led: others may be a neighbour's."""
    listed = json.loads(agent.run(["ip", "-j", "netns", "list-id"]) or "[]")
    return [one["name"] for one in listed if one.get("name", "").startswith("one-")]


def _tables(agent: PrivateAgent) -> list[str]:
    listed = json.loads(agent.run(["nft", "-j", "list", "tables"]))["nftables"]
    return [f"table {one['table']['name']}" for one in listed if "table" in one]


def _files(agent: PrivateAgent) -> list[str]:
    assert agent.runtime_dir is not None
    return [str(path) for directory in (agent.state_dir / "vms", agent.runtime_dir) for path in directory.glob("*")]


def _remove_links(agent: PrivateAgent) -> None:
    for link in agent.ip("link"):
        if link["ifname"] != "lo":
            with suppress(subprocess.CalledProcessError):  # the other end of a veth pair goes with the first one
                agent.run(["ip", "link", "delete", link["ifname"]])
