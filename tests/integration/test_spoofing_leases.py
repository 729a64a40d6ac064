"""Nobody chooses what a filter takes for the VM's address by answering its DHCP client: a real client and agent."""

import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.dhcp_server import DhcpServer
from tests.support.probing import inside
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Method, Spoofing

pytestmark = pytest.mark.root

VM = VmId(270_040)
BRIDGE = "odt-sl0"
NIC = Nic(
    0, "eth0", f"one-{VM}-0", "02:00:0a:05:00:40", BRIDGE, method=Method.DHCP, spoofing=Spoofing(mac=True, ip=True)
)
LEASED, WANTED = "10.5.0.20", "10.5.0.66"
YEARS = 10**8
HEADERS = 28
"""Bytes of IPv4 and UDP before a message."""


@pytest.fixture(scope="module")
def agent() -> Iterator[PrivateAgent]:
    with PrivateAgent() as running:
        running.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        running.run(["ip", "address", "add", "10.5.0.1/24", "dev", BRIDGE])
        running.run(["ip", "link", "set", BRIDGE, "up"])
        yield running


@pytest.fixture
async def dhcp(agent: PrivateAgent, tmp_path: Path) -> AsyncIterator[DhcpServer]:
    """A server that is away; the VM has its lease."""
    server = DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE, last=LEASED)
    async with AgentClient(agent.socket) as client:
        with server:
            await client.ensure(Network(VM, (NIC,)))
        assert addresses(agent) == [LEASED]
        yield server
        await client.remove(VM)


def addresses(agent: PrivateAgent) -> list[str]:
    shown = agent.ip("-4", "addr", "show", "dev", "eth0", netns=f"one-{VM}")
    return [one["local"] for part in shown for one in part["addr_info"]]


def allowed(agent: PrivateAgent) -> str:
    return agent.run(["nft", "list", "set", "netdev", "onedock", f"one-{VM}-0.net4"])


def client_pid() -> int:
    """Of the agent's DHCP client; 0: none."""
    ours = (
        pid
        for pid in processes.pids()
        if {"udhcpc", "eth0"} <= set(words := processes.command_line(pid))
        and any(processes.RUN in word for word in words)
    )
    return next(ours, 0)


def renewal() -> bytes:
    """What the client asks when half of the time is over, as the guest sees it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as tap:
        tap.bind(("eth0", 3))  # ETH_P_ALL: also what is sent
        tap.settimeout(10)
        os.kill(client_pid(), signal.SIGUSR1)
        while True:
            packet = tap.recv(2048)
            if packet[9] == socket.IPPROTO_UDP and packet[22:24] == struct.pack("!H", 67):
                return packet[HEADERS:]


def acknowledgement(question: bytes, address: str) -> bytes:
    """Of a server that has not been asked."""
    start = struct.pack("!BBBB", 2, 1, 6, 0) + question[4:8] + bytes(8) + socket.inet_aton(address) + bytes(8)
    options = bytes([53, 1, 5, 54, 4, 10, 5, 0, 1, 51, 4]) + YEARS.to_bytes(4) + bytes([1, 4, 255, 255, 255, 0, 255])
    return start + question[28:44] + bytes(192) + bytes.fromhex("63825363") + options


def answer(link: str, target: str, message: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        server.bind(("", 67))
        server.sendto(message, (target, 68))


async def test_a_guest_is_no_server_of_its_own_client(agent: PrivateAgent, dhcp: DhcpServer) -> None:
    """It would hear what it broadcasts, as if that came in by the NIC."""
    question = inside(f"one-{VM}", renewal)
    for target in ("255.255.255.255", "10.5.0.255", "224.0.0.1"):
        with pytest.raises(PermissionError):
            inside(f"one-{VM}", partial(answer, "eth0", target, acknowledgement(question, WANTED)))
    assert addresses(agent) == [LEASED]
    assert WANTED not in allowed(agent)


async def test_a_renewed_lease_is_of_the_same_address(agent: PrivateAgent, dhcp: DhcpServer) -> None:
    before = client_pid()
    question = inside(f"one-{VM}", renewal)
    inside(agent.netns, partial(answer, BRIDGE, LEASED, acknowledgement(question, WANTED)))
    await eventually(lambda: client_pid() not in {0, before}, what="another client asks from the beginning")
    assert WANTED not in allowed(agent)
    ended = [line for line in agent.log.read_text().splitlines() if "dhcp client ended" in line][-1]
    assert f"{WANTED} instead of the address that is to be renewed" in ended
    with dhcp:
        await eventually(lambda: addresses(agent) == [LEASED], within=20, what="the server's own answer is taken")
    assert LEASED in allowed(agent)
