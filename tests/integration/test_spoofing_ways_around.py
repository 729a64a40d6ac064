"""A VM reaches neither another network nor the node by ways around: another VM in both networks, the node's bridge."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from tests.support import packets
from tests.support.agent import PrivateAgent
from tests.support.plumbing import NEEDS_ROOT
from tests.support.probing import inside
from tests.support.waiting import eventually

from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Spoofing, Vxlan

pytestmark = NEEDS_ROOT

GUEST, OTHER, BETWEEN = VmId(270_050), VmId(270_051), VmId(270_052)
NEAR, FAR = "odt-wa0", "odt-wa1"
NODE, PORT, VNI = "192.0.2.7", 8472, 77


def nic(vm: VmId, index: int = 0, *, bridge: str = NEAR) -> Nic:
    net = 6 if bridge == NEAR else 7
    mac, address = f"02:00:0a:0{net}:00:{vm % 250:02x}", f"10.{net}.0.{vm % 250}/24"
    filters = Spoofing() if vm == BETWEEN else Spoofing(mac=True, ip=True)
    return Nic(index, f"eth{index}", f"one-{vm}-{index}", mac, bridge, addresses=(address,), spoofing=filters)


def address(made: Nic) -> str:
    return made.addresses[0].partition("/")[0]


def send(to: str, packet: bytes) -> None:
    """A frame of the guest's, that none of its filters has to stop."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind(("eth0", 0))
        raw.send(packets.ether(to, nic(GUEST).mac, packets.IPV4, packet))


def datagram(target: str, port: int, payload: bytes) -> bytes:
    return packets.udp(address(nic(GUEST)), 5, target, port, payload)


@contextmanager
def heard(vm: VmId) -> Iterator[Callable[[], bytes]]:
    """What came in to the VM until now."""

    def listen() -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        opened.bind(("eth0", 3))
        return opened

    got = bytearray()

    def read() -> bytes:
        try:
            while True:
                got.extend(opened.recv(2048))
        except BlockingIOError:
            return bytes(got)

    with inside(f"one-{vm}", listen) as opened:
        yield read


async def test_a_vm_in_two_networks_does_not_connect_them(agent: PrivateAgent, client: AgentClient) -> None:
    between = (nic(BETWEEN), nic(BETWEEN, 1, bridge=FAR))
    for vm, nics in ((GUEST, (nic(GUEST),)), (OTHER, (nic(OTHER, bridge=FAR),)), (BETWEEN, between)):
        await client.ensure(Network(vm, nics))
    target = address(nic(OTHER, bridge=FAR))
    first, second = os.urandom(8), os.urandom(8)
    with heard(OTHER) as read:
        inside(f"one-{GUEST}", partial(send, between[0].mac, datagram(target, 9, first)))
        agent.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], netns=f"one-{BETWEEN}")
        inside(f"one-{GUEST}", partial(send, between[0].mac, datagram(target, 9, second)))
        await eventually(lambda: second in read(), what="it would, as a router")
        assert first not in read()


async def test_a_vm_puts_nothing_into_the_nodes_tunnels(agent: PrivateAgent, client: AgentClient) -> None:
    agent.run(["ip", "link", "add", "odt-wau", "type", "veth", "peer", "name", "odt-wav"])
    agent.run(["ip", "address", "add", f"{NODE}/24", "dev", "odt-wau"])
    agent.run(["ip", "link", "set", "odt-wau", "up"])
    agent.run(["ip", "link", "set", "odt-wav", "up"])
    tunnel = Vxlan(f"odt-wau.{VNI}", "odt-wau", VNI, remotes=("192.0.2.8",), local=NODE, port=PORT)
    victim = Nic(0, "eth0", f"one-{OTHER}-0", "02:00:0a:07:00:99", FAR, addresses=("10.7.0.9/24",), uplink=tunnel)
    await client.ensure(Network(GUEST, (nic(GUEST),)))
    await client.ensure(Network(OTHER, (victim,)))
    [bridge] = agent.ip("link", "show", "dev", NEAR)

    def inject(token: bytes) -> None:
        frame = packets.ether(
            victim.mac, "02:66:66:66:66:66", packets.IPV4, packets.udp("10.7.0.66", 5, "10.7.0.9", 9, token)
        )
        send(bridge["address"], datagram(NODE, PORT, struct.pack("!BxxxI", 8, VNI << 8) + frame))

    first, second = os.urandom(8), os.urandom(8)
    with heard(OTHER) as read:
        inside(f"one-{GUEST}", partial(inject, first))
        agent.run(["sysctl", "-qw", f"net.ipv4.conf.{NEAR}.rp_filter=0"])
        inside(f"one-{GUEST}", partial(inject, second))
        await eventually(lambda: second in read(), what="it would, if the node took it")
        assert first not in read()
