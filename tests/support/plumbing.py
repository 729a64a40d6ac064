"""What the integration tests of the agent's networks share: NICs, an agent that leaves nothing behind, measures."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.agent import PrivateAgent
from tests.support.engine import PrivateEngine
from tests.support.leaks import assert_nothing_leaked, snapshot

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Nic, VmId

NEEDS_ROOT = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

_RECEIVER = """
import array, fcntl, socket, sys, termios, time
seconds = float(sys.argv[2])

def unread():
    waiting = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, waiting)
    return waiting[0]

with socket.create_server((sys.argv[1], 5001)) as server:
    print("ready", flush=True)
    connection, _ = server.accept()
    with connection:
        buffer = bytearray(1 << 20)
        settled = time.monotonic() + 0.5
        while time.monotonic() < settled:
            connection.recv_into(buffer)
        # What has arrived counts, not what was read: a busy machine lets the reader wait now and then.
        begin, count = time.monotonic(), -unread()
        while (passed := time.monotonic() - begin) < seconds:
            count += connection.recv_into(buffer)
        print((count + unread()) / passed, flush=True)
"""
_SENDER = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001)) as connection:
    data = bytes(1 << 18)
    try:
        while True:
            connection.sendall(data)
    except ConnectionError:
        pass
"""


@contextmanager
def agent_of(engine: PrivateEngine, bridge: str) -> Iterator[PrivateAgent]:
    """The agent of an engine's node, which has 10.5.0.1/24 on the bridge."""
    with PrivateAgent(netns=engine.netns, runtime_dir=engine.runtime_dir, engine_root=engine.data_root) as agent:
        agent.run(["ip", "link", "add", bridge, "type", "bridge"])
        agent.run(["ip", "address", "add", "10.5.0.1/24", "dev", bridge])
        agent.run(["ip", "link", "set", bridge, "up"])
        yield agent
        agent.run(["ip", "link", "delete", bridge])


def nic(vm: VmId, index: int = 0, **changes: Any) -> Nic:
    """A NIC in bridge odt-br0 with an address of 10.77.<index>.0/24 and no gateway."""
    made = Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{vm}-{index}",
        mac=f"02:00:0a:4d:{index:02x}:{vm % 250:02x}",
        bridge="odt-br0",
        addresses=(f"10.77.{index}.{vm % 250}/24",),
    )
    return replace(made, **changes)


def address(vm: VmId, index: int = 0) -> str:
    """The first address of ``nic(vm, index)``."""
    return nic(vm, index).addresses[0].split("/")[0]


@contextmanager
def bare_node() -> Iterator[PrivateAgent]:
    """An agent in a namespace of its own, after which nothing is left."""
    before = snapshot()
    with PrivateAgent() as running:
        yield running
    assert_nothing_leaked(before, snapshot())


@asynccontextmanager
async def connected(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    """A client of the agent, after which all VMs that it knows are removed."""
    async with AgentClient(agent.socket) as client:
        yield client
        if agent.alive:
            for vm in await client.list_vms():
                await client.remove(vm)


def ping(agent: PrivateAgent, vm: VmId, target: str, *, source: str | None = None) -> bool:
    """Whether ``target`` answers the VM within two seconds; ``source`` is a NIC or an address of it."""
    argv = ["busybox", "ping", "-c", "1", "-W", "2", *(["-I", source] if source else []), target]
    try:
        agent.run(argv, netns=f"one-{vm}")
    except subprocess.CalledProcessError:
        return False
    return True


def throughput(source: VmId, target: VmId, to: str, *, seconds: float = 2.0) -> float:
    """Bytes per second of one TCP connection between two VMs, without its first half second."""

    def inside(vm: VmId, script: str, *args: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/one-{vm}", sys.executable, "-c", script, *args]

    receiver = subprocess.Popen(inside(target, _RECEIVER, to, str(seconds)), stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    with receiver, receiver.stdout as said:
        assert said.readline() == "ready\n"
        with subprocess.Popen(inside(source, _SENDER, to)) as sender:
            measured = float(said.readline())
            sender.kill()
        return measured
