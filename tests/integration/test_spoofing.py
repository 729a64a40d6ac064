"""A container with Docker's default rights forges frames, and its neighbours and the wire are watched.

What a NIC's filters have to stop is seen nowhere; what they do not have to stop is seen.
"""

import asyncio
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import engine as engines
from tests.support.agent import PrivateAgent
from tests.support.engine import PrivateEngine
from tests.support.forger import Forger, Sniffers, token
from tests.support.forgeries import FORGED, HONEST
from tests.support.forging import (
    ALL,
    BOTH,
    GROUPS,
    IP,
    KINDS,
    MAC,
    OPEN_PORT,
    PEER,
    PEER_6,
    PEER_MAC,
    Forgery,
    Guest,
    honest_frame,
)

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Direction, Protocol, SecurityRule, Spoofing

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(engines.why_not() is not None, reason=str(engines.why_not())),
]

GUEST_VM, PEER_VM = VmId(271_000), VmId(271_001)
BRIDGE, UPLINK, FAR_END = "odt-sp0", "odt-spw0", "odt-spw1"
RULES = (
    SecurityRule(100, Direction.OUTBOUND, Protocol.UDP, ports=((OPEN_PORT, OPEN_PORT),)),
    SecurityRule(100, Direction.INBOUND, Protocol.ALL),
)
LIMITED = len(KINDS)
"""Index of one more NIC, with a limit of what it sends and no filters."""
LIMIT = 1_000_000
BURST = 2 * LIMIT
"""What may pass at first; unlimited, it would be a hundred times as much each second."""
AF_XDP = 44
SOL_PACKET, PACKET_LOSS, PACKET_VNET_HDR, PACKET_QDISC_BYPASS, PACKET_VNET_HDR_SZ = 263, 14, 15, 20, 24


def nic(vm: VmId, index: int, mac: str, host: int, **changes: Any) -> Nic:
    made = Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{vm}-{index}",
        mac=mac,
        bridge=BRIDGE,
        addresses=(f"10.81.0.{host}/24", f"fd81::{host:x}/64"),
        phydev=UPLINK,
    )
    return replace(made, **changes)


def guests() -> Network:
    """One NIC for each kind of filters, in the order of ``KINDS``, and the limited one."""
    nics = []
    for index, kind in enumerate(KINDS):
        spoofing = Spoofing(mac=kind in {MAC, BOTH, ALL}, ip=kind in {IP, BOTH, ALL})
        rules = RULES if kind in {GROUPS, ALL} else None
        nics.append(nic(GUEST_VM, index, f"02:00:81:00:00:{index + 1:02x}", index + 1, spoofing=spoofing, rules=rules))
    limit = Bandwidth(average=LIMIT)
    nics.append(nic(GUEST_VM, LIMITED, "02:00:81:00:00:0f", 15, outbound=limit))
    return Network(GUEST_VM, tuple(nics))


@dataclass(frozen=True, slots=True)
class Scene:
    """A guest in a container, and everything that its frames could reach."""

    forger: Forger
    sniffers: Sniffers
    network: Network

    def passes(self, forgery: Forgery, guest: Guest, *, expected: bool) -> bool:
        """Whether a frame of it gets out of this NIC: it is followed by an honest one, which does.

        One that is sent by another CPU may overtake it: what is expected is waited for.
        """
        mark, last = token(), token()
        for order in forgery.orders(guest, mark):
            self.forger.do(*order)
        for order in honest_frame(guest, last):
            assert self.forger.do(*order) is None
        assert self.sniffers.wait_for(last), "an honest frame passes"
        return self.sniffers.wait_for(mark) if expected else self.sniffers.saw(mark)


async def plug(agent: PrivateAgent, container: ContainerId, network: Network) -> None:
    async with AgentClient(agent.socket) as client:
        made = await client.ensure(network)
        assert made.provides(network)
        await client.ensure(Network(PEER_VM, (nic(PEER_VM, 0, PEER_MAC, 200),)))
        await client.bind(GUEST_VM, container)


async def unplug(agent: PrivateAgent) -> None:
    async with AgentClient(agent.socket) as client:
        for vm in (GUEST_VM, PEER_VM):
            await client.remove(vm)


@pytest.fixture(scope="module")
def scene(engine: PrivateEngine) -> Iterator[Scene]:
    network = guests()
    with ExitStack() as stack:
        engine.run_in_netns(["ip", "link", "add", UPLINK, "type", "veth", "peer", "name", FAR_END])
        stack.callback(engine.run_in_netns, ["ip", "link", "delete", UPLINK])
        engine.run_in_netns(["ip", "link", "set", FAR_END, "up"])
        agent = stack.enter_context(PrivateAgent(netns=engine.netns, runtime_dir=engine.runtime_dir))
        stack.callback(lambda: asyncio.run(unplug(agent)))
        forger = stack.enter_context(closing(Forger(engine)))
        asyncio.run(plug(agent, forger.create(), network))
        forger.start()
        links = [(f"one-{PEER_VM}", "eth0"), (engine.netns, FAR_END)]
        yield Scene(forger, stack.enter_context(Sniffers(links)), network)


def test_the_guest_has_the_rights_of_any_container(scene: Scene) -> None:
    assert scene.forger.do("capabilities") is None
    assert {PEER, PEER_6} == {one.partition("/")[0] for one in nic(PEER_VM, 0, PEER_MAC, 200).addresses}


@pytest.mark.parametrize("high", [0, 1 << 32], ids=["plain", "with bits that the kernel ignores"])
def test_there_are_no_sockets_that_send_past_the_filters(scene: Scene, high: int) -> None:
    """AF_XDP in copy mode meets no hook at egress, and needs only CAP_NET_RAW."""
    assert scene.forger.do("open_socket", high + socket.AF_PACKET) is None
    for family in (AF_XDP, socket.AF_VSOCK):
        assert "Operation not permitted" in str(scene.forger.do("open_socket", high + family))


@pytest.mark.parametrize("high", [0, 1 << 32], ids=["plain", "with bits that the kernel ignores"])
def test_no_frame_is_changed_behind_the_filters(scene: Scene, high: int) -> None:
    """What a checksum is put over on the way to the wire, such as an address, no filter has seen."""
    assert scene.forger.do("set_option", SOL_PACKET, PACKET_QDISC_BYPASS, 1) is None
    assert scene.forger.do("set_option", SOL_PACKET, PACKET_LOSS, 1) is None
    for option in (PACKET_VNET_HDR, PACKET_VNET_HDR_SZ):
        assert "Operation not permitted" in str(scene.forger.do("set_option", SOL_PACKET + high, option + high, 1))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the call is written for this machine")
def test_32_bit_programs_have_no_such_sockets_either(scene: Scene) -> None:
    """They name the family in memory, where no filter can look."""
    ask = "from tests.support import forger_inside; forger_inside.open_socket_32(17)"
    if subprocess.run([sys.executable, "-c", ask], check=False, cwd=Path(__file__).parents[2]).returncode:
        pytest.skip("this kernel runs no 32-bit programs")
    for family in (AF_XDP, socket.AF_VSOCK):
        assert "no socket" in str(scene.forger.do("open_socket_32", family))


@pytest.mark.parametrize("forgery", [*HONEST, *FORGED], ids=str)
def test_what_is_forged_does_not_get_out(scene: Scene, forgery: Forgery) -> None:
    guests = {kind: Guest.of(one) for kind, one in zip(KINDS, scene.network.nics, strict=False)}
    wanted = set(KINDS) - forgery.stopped_by
    assert {kind for kind, guest in guests.items() if scene.passes(forgery, guest, expected=kind in wanted)} == wanted


def test_raw_frames_are_limited_too(scene: Scene, engine: PrivateEngine) -> None:
    """Frames past the queues do not meet the queue that shapes what the guest sends."""
    limited = Guest.of(scene.network.nics[LIMITED])
    frame = honest_frame(limited, bytes(1300))[0][2]
    start, before = time.monotonic(), received(engine)
    assert scene.forger.do("flood", limited.link, frame, 2.0) is None
    passed = received(engine) - before
    assert LIMIT < passed < 1.5 * LIMIT * (time.monotonic() - start) + BURST


def received(engine: PrivateEngine) -> int:
    """Bytes that came to the end of the wire so far."""
    (shown,) = json.loads(engine.run_in_netns(["ip", "-json", "-s", "link", "show", "dev", FAR_END]).stdout)
    return int(shown["stats64"]["rx"]["bytes"])
