"""NICs by DHCP: a real agent, the real client, a real server; leases obtained, renewed, kept and given back."""

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tests.support import processes
from tests.support.agent import PrivateAgent
from tests.support.dhcp_server import DhcpServer
from tests.support.leaks import assert_nothing_leaked, snapshot
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Direction, Method, Protocol, SecurityRule, Spoofing

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VM = VmId(250_001)
BRIDGE = "odt-dh0"


def nic(index: int = 0, **changes: Any) -> Nic:
    made = Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{VM}-{index}",
        mac=f"02:00:0a:05:00:{index:02x}",
        bridge=BRIDGE,
        method=Method.DHCP,
    )
    return replace(made, **changes)


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> Iterator[PrivateAgent]:
    before = snapshot()
    with PrivateAgent(under=getattr(request, "param", ())) as running:
        running.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        running.run(["ip", "address", "add", "10.5.0.1/24", "dev", BRIDGE])
        running.run(["ip", "link", "set", BRIDGE, "up"])
        yield running
        processes.wait_until(lambda: not clients(), within=20, what="the clients end with their agent")
    assert_nothing_leaked(before, snapshot())


@pytest.fixture
async def client(agent: PrivateAgent) -> AsyncIterator[AgentClient]:
    async with AgentClient(agent.socket) as connected:
        yield connected
        if agent.alive:
            await connected.remove(VM)
            assert agent.stop() == 0


def server(agent: PrivateAgent, tmp_path: Path, **options: Any) -> DhcpServer:
    return DhcpServer(tmp_path / "dhcp", netns=agent.netns, link=BRIDGE, **{"last": "10.5.0.20", **options})


def clients() -> list[int]:
    """Running clients of the VM's NICs, without what one is about to start: that looks like itself for a moment."""
    found = [
        pid
        for pid in processes.pids()
        if "udhcpc" in (words := processes.command_line(pid)) and any(f"odt-{os.getpid()}" in word for word in words)
    ]
    return [pid for pid in found if processes.parent(pid) not in found]


def addresses(agent: PrivateAgent, link: str = "eth0") -> list[tuple[str, int]]:
    shown = agent.ip("-4", "addr", netns=f"one-{VM}")
    found = [one for part in shown if part.get("ifname") == link for one in part["addr_info"]]
    return [(f"{one['local']}/{one['prefixlen']}", one["valid_life_time"]) for one in found]


def routes(agent: PrivateAgent) -> list[tuple[str, str, str, int]]:
    shown = agent.ip("-4", "route", "show", "proto", "dhcp", netns=f"one-{VM}")
    return sorted((one["dst"], one.get("gateway", ""), one["dev"], one["metric"]) for one in shown)


async def test_a_lease_is_there_before_the_vm_starts_and_given_back_at_its_end(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    with server(agent, tmp_path) as dhcp:
        made = await client.ensure(Network(VM, (nic(),)))
        assert made.waiting == ()
        assert made.provides(Network(VM, (nic(),)))
        [(address, left)] = addresses(agent)
        assert address == "10.5.0.20/24"
        assert 3500 < left <= 3600
        assert routes(agent) == [("default", "10.5.0.1", "eth0", 100)]
        await eventually(lambda: dhcp.leases() == {"10.5.0.20": nic().mac}, what="the server knows its lease")
        agent.run(["busybox", "ping", "-c", "1", "-W", "2", "10.5.0.1"], netns=f"one-{VM}")

        before = addresses(agent), clients()
        await client.ensure(Network(VM, (nic(),)))
        assert [clients()] == [before[1]], "one client for one NIC"

        await client.remove(VM)
        assert clients() == []
        await eventually(lambda: dhcp.leases() == {}, what="the lease is given back")


async def test_without_a_server_the_vm_starts_and_gets_its_address_later(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    made = await client.ensure(Network(VM, (nic(),)))
    assert made.waiting == ("waiting for a DHCP lease on eth0: no DHCP server has answered yet",)
    assert made.missing == ()
    assert addresses(agent) == []
    with server(agent, tmp_path):
        await eventually(lambda: addresses(agent), within=20, what="the address comes")
        observed = await client.observe(VM)
        assert observed is not None
        assert observed.waiting == ()


async def test_a_lease_is_renewed(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with server(agent, tmp_path) as dhcp:
        await client.ensure(Network(VM, (nic(),)))
        await eventually(dhcp.leases, what="the server has written its lease down")
    with server(agent, tmp_path, seconds=7200):
        [pid] = clients()
        os.kill(pid, signal.SIGUSR1)  # as when half of the time is over
        await eventually(lambda: addresses(agent)[0][1] > 3600, what="the kernel knows the new end")
        assert [address for address, _ in addresses(agent)] == ["10.5.0.20/24"]


async def test_a_lease_that_nobody_renews_ends(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with server(agent, tmp_path, seconds=6, more="min_lease 5"):
        await client.ensure(Network(VM, (nic(),)))
        assert addresses(agent)
    await eventually(lambda: addresses(agent) == [], within=20, what="the lease ends")

    async def told() -> bool:
        observed = await client.observe(VM)
        return observed is not None and any("waiting for a DHCP lease on eth0: " in line for line in observed.waiting)

    await eventually(told, what="what the VM waits for is told")


async def test_two_nics_by_dhcp_have_a_client_each(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with server(agent, tmp_path, last="10.5.0.21") as dhcp:
        await client.ensure(Network(VM, (nic(), nic(1, metric=7))))
        # The server asks for each address whether somebody has it, one after the other.
        both = [("default", "10.5.0.1", "eth0", 100), ("default", "10.5.0.1", "eth1", 7)]
        await eventually(lambda: routes(agent) == both, what="both have an address, and then a route")
        assert addresses(agent)[0][0] != addresses(agent, "eth1")[0][0]
        macs = {nic().mac, nic(1).mac}
        await eventually(lambda: set(dhcp.leases().values()) == macs, what="the server knows both leases")
        assert len(clients()) == 2

        await client.ensure(Network(VM, (nic(),)))
        assert len(clients()) == 1
        await eventually(lambda: set(dhcp.leases().values()) == {nic().mac}, what="the other lease is given back")


async def test_an_agent_that_dies_takes_over_lease_and_client(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    with server(agent, tmp_path) as dhcp:
        await client.ensure(Network(VM, (nic(),)))
        before = addresses(agent)[0][0]
        [survivor] = clients()
        agent.kill()
        assert addresses(agent)[0][0] == before, "the kernel keeps the address meanwhile"
        agent.start()
        await eventually(lambda: clients() and survivor not in clients(), what="the survivor is replaced")
        await eventually(lambda: dhcp.heard("ACK") >= 2, what="the new client asks for its lease")
        assert [address for address, _ in addresses(agent)] == [before]
        assert len(clients()) == 1
        assert agent.stop() == 0
        assert clients() == []
        assert dhcp.leases() == {before.split("/")[0]: nic().mac}, "an agent that stops keeps its leases"
        agent.start()
        await client.remove(VM)


async def test_a_client_that_dies_is_started_again(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with server(agent, tmp_path):
        await client.ensure(Network(VM, (nic(),)))
        [first] = clients()
        processes.kill_now(first)
        await eventually(lambda: clients() and clients() != [first], what="another client runs")
        assert addresses(agent)[0][0] == "10.5.0.20/24"


async def test_what_is_broken_is_put_back(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    wanted = Network(VM, (nic(),))
    with server(agent, tmp_path):
        await client.ensure(wanted)
        for damage in (["addr", "flush", "dev", "eth0"], ["route", "del", "default"], ["link", "set", "eth0", "down"]):
            agent.run(["ip", *damage], netns=f"one-{VM}")
            await eventually(lambda: addresses(agent) and routes(agent), what=f"healed after {damage}")
            assert [address for address, _ in addresses(agent)] == ["10.5.0.20/24"]
            assert routes(agent) == [("default", "10.5.0.1", "eth0", 100)]

        agent.run(["ip", "link", "del", f"one-{VM}-0"])
        await eventually(lambda: addresses(agent) and routes(agent), what="the new link has the lease")
        assert [address for address, _ in addresses(agent)] == ["10.5.0.20/24"]
        await eventually(lambda: len(clients()) == 1, what="one client, on the new link")

        static = nic(method=Method.STATIC, addresses=("10.5.0.99/24",))
        await client.ensure(Network(VM, (static,)))
        assert [address for address, _ in addresses(agent)] == ["10.5.0.99/24"]
        assert routes(agent) == []
        assert clients() == []


async def test_what_a_server_says_is_data(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    hostile = f"$(touch {proof});`touch${{IFS}}{proof}`"
    with server(agent, tmp_path, more=f"option hostname {hostile}\noption message {hostile}\noption mtu 1300"):
        await client.ensure(Network(VM, (nic(),)))
        assert addresses(agent)[0][0] == "10.5.0.20/24"
        assert agent.ip("link", "show", "eth0", netns=f"one-{VM}")[0]["mtu"] == 1300
    assert not proof.exists()


def bounded() -> list[str]:
    """Takes what the agent's unit does not leave."""
    unit = resources.files("onedock.install").joinpath("systemd/onedock-agent.service").read_text()
    [kept] = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    bounds = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in kept.split())])
    return ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--inh-caps=-all", "--"]


@pytest.mark.parametrize("agent", [bounded()], indirect=True, ids=["bounded"])
async def test_the_rights_of_the_unit_are_enough(agent: PrivateAgent, client: AgentClient, tmp_path: Path) -> None:
    with server(agent, tmp_path):
        assert (await client.ensure(Network(VM, (nic(),)))).waiting == ()
        assert addresses(agent)


async def test_filters_let_the_client_and_its_lease_pass(
    agent: PrivateAgent, client: AgentClient, tmp_path: Path
) -> None:
    everything = SecurityRule(0, Direction.OUTBOUND, Protocol.ALL)
    filtered = nic(spoofing=Spoofing(mac=True, ip=True), rules=(everything,))
    with server(agent, tmp_path) as dhcp:
        assert (await client.ensure(Network(VM, (filtered,)))).waiting == ()
        agent.run(["busybox", "ping", "-c", "1", "-W", "2", "10.5.0.1"], netns=f"one-{VM}")
        [way] = (await client.path(VM)).nics
        assert way.rules
        assert way.forged
        assert [one for one in way.forged if one.packets] == []

        agent.run(["ip", "address", "add", "10.5.0.77/24", "dev", "eth0", "valid_lft", "99", "preferred_lft", "99"],
                  netns=f"one-{VM}")  # fmt: skip
        argv = ["busybox", "ping", "-c", "1", "-W", "1", "-I", "10.5.0.77", "10.5.0.1"]
        with pytest.raises(subprocess.CalledProcessError):
            agent.run(argv, netns=f"one-{VM}")
        [way] = (await client.path(VM)).nics
        assert way.forged
        assert [one.rule for one in way.forged if one.packets], "the address of another is dropped and counted"
        await client.remove(VM)
        await eventually(lambda: not dhcp.leases(), what="the lease is given back through the filters")
