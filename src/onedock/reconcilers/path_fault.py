"""The first broken hop on the way of a NIC's frames. Pure.

What is broken for certain comes first, from the container to the wire; then what may be a consequence of something
beyond the node: no lease, a gateway that does not answer, packets that are being dropped.
"""

import ipaddress
from collections.abc import Iterator

from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Method, Switch, Vxlan
from onedock.reconcilers.path import Fault, Hop, NicPath, PathLink

_HEAL = "the agent puts that right within a second; if it stays, see journalctl -u onedock-agent on the node"
_DROPPED = frozenset({"in.dropped", "out.dropped", "out.raw"})
_RATE = "rate"
_SILENT = frozenset({"failed", "incomplete"})


def find_broken(path: NicPath) -> Fault | None:
    """The first fault; None when the node has nothing to be mended."""
    return next(_faults(path), None)


def _faults(path: NicPath) -> Iterator[Fault]:
    yield from _container(path)
    yield from _host_side(path)
    yield from _bridge(path)
    yield from _way_out(path)
    yield from _mtus(path)
    if path.waiting:
        yield Fault(Hop.GATEWAY, path.waiting, "see that a DHCP server is in that network and has addresses left")
    yield from _router(path)
    yield from _gateway(path)
    yield from _losses(path)


def _container(path: NicPath) -> Iterator[Fault]:
    nic, inside = path.nic, path.inside
    if inside is None:
        yield Fault(Hop.CONTAINER, f"the container has no {nic.name}: the NIC is not plugged", _HEAL)
        return
    if not inside.up:
        yield Fault(Hop.CONTAINER, f"{nic.name} is down in the container", _HEAL)
    if inside.mac != nic.mac.lower():
        yield Fault(
            Hop.CONTAINER,
            f"{nic.name} has the MAC {inside.mac}, not {nic.mac.lower()}: answers go elsewhere, filters drop it",
            _HEAL,
        )
    present = {str(ipaddress.ip_interface(one)) for one in path.addresses}
    for address in nic.addresses:
        if str(ipaddress.ip_interface(address)) not in present:
            yield Fault(Hop.CONTAINER, f"{nic.name} lacks the address {address}", _HEAL)
    gateways = {str(ipaddress.ip_address(one)) for one in path.gateways}
    for gateway in nic.gateways:
        if str(ipaddress.ip_address(gateway)) not in gateways:
            yield Fault(Hop.CONTAINER, f"the default route by {gateway} is missing", _HEAL)


def _host_side(path: NicPath) -> Iterator[Fault]:
    nic, host = path.nic, path.host
    if nic.rules is not None and path.rules is not None and not path.rules:
        yield Fault(Hop.RULES, f"the rules of {nic.name}'s security groups are not loaded", _HEAL)
    if (nic.spoofing.mac or nic.spoofing.ip) and path.forged == ():
        yield Fault(Hop.SPOOFING, f"the spoofing filter of {nic.host_name} is not loaded", _HEAL)
    if host is None:
        yield Fault(Hop.HOST, f"{nic.host_name} is missing: nothing leads out of the container", _HEAL)
        return
    if not path.joined:
        yield Fault(Hop.HOST, f"{host.name} is not the other end of {nic.name}", _HEAL)
    if not host.up:
        yield Fault(Hop.HOST, f"{host.name} is down", _HEAL)
    if path.inside is not None and path.inside.up and not host.carrier:
        yield Fault(Hop.HOST, f"{host.name} has no carrier", _HEAL)
    if path.bridge is None:
        return  # it is the bridge that is broken, and has taken all its ports along
    if not host.master:
        yield Fault(Hop.HOST, f"{host.name} is unplugged from {nic.bridge}", _HEAL)
    elif nic.switch is Switch.LINUX and host.master != nic.bridge:
        yield Fault(Hop.HOST, f"{host.name} is plugged into {host.master}, not {nic.bridge}", _HEAL)
    if not host.forwarding:
        yield Fault(
            Hop.HOST,
            f"spanning tree of {nic.bridge} blocks {host.name}, or still listens",
            f"wait for its forward delay, or: ip link set {nic.bridge} type bridge stp_state 0",
        )


def _bridge(path: NicPath) -> Iterator[Fault]:
    nic, bridge = path.nic, path.bridge
    if bridge is None:
        yield Fault(Hop.BRIDGE, f"bridge {nic.bridge} is missing", _HEAL)
    elif not bridge.up and nic.switch is Switch.LINUX:
        yield Fault(Hop.BRIDGE, f"bridge {nic.bridge} is down", _HEAL)


def _way_out(path: NicPath) -> Iterator[Fault]:
    nic, uplink = path.nic, path.uplink
    if nic.uplink is not None:
        if uplink is None:
            yield Fault(Hop.UPLINK, f"{nic.uplink.kind} link {nic.uplink.name} is missing", _HEAL)
        else:
            yield from _port(Hop.UPLINK, uplink, nic)
    phydev = physical_device(nic)
    if phydev is None:
        return
    if path.device is None:
        yield Fault(
            Hop.DEVICE,
            f"physical device {phydev} is missing on the node",
            "correct PHYDEV of the virtual network, or give the node that device",
        )
    elif nic.uplink is None:
        yield from _port(Hop.DEVICE, path.device, nic)
    elif not path.device.up:
        yield Fault(Hop.DEVICE, f"{phydev} is down", f"ip link set {phydev} up, on the node")
    if path.device is not None and path.device.up and not path.device.carrier:
        yield Fault(Hop.DEVICE, f"{phydev} has no carrier", "look at cable, switch port or bond on the node")


def _port(hop: Hop, link: PathLink, nic: Nic) -> Iterator[Fault]:
    if not link.up:
        yield Fault(hop, f"{link.name} is down", f"ip link set {link.name} up, on the node")
    # A port of Open vSwitch has the same master whatever its bridge.
    if not link.master or (nic.switch is Switch.LINUX and link.master != nic.bridge):
        where = f"plugged into {link.master}" if link.master else "unplugged"
        yield Fault(hop, f"{link.name} is {where}, not into {nic.bridge}", _HEAL)
    if not link.forwarding:
        yield Fault(
            hop,
            f"spanning tree of {nic.bridge} blocks {link.name}",
            "look for the loop: another port of the bridge leads to the same network",
        )


def _mtus(path: NicPath) -> Iterator[Fault]:
    """A later hop that takes less than the container may send: small packets pass, large ones vanish."""
    if path.inside is None:
        return
    needed = path.inside.mtu
    over = path.nic.uplink.overhead if isinstance(path.nic.uplink, Vxlan) else 0
    hops = (
        (Hop.HOST, path.host, 0),
        (Hop.UPLINK, path.uplink, 0),
        (Hop.DEVICE, path.device, over),
        # Last: a bridge takes the least of its ports' by itself.
        (Hop.BRIDGE, path.bridge, 0),
    )
    for hop, link, headers in hops:
        if link is not None and link.mtu < needed + headers:
            also = f" and {headers} bytes of VXLAN" if headers else ""
            yield Fault(
                hop,
                f"{link.name} takes {link.mtu} bytes, {path.nic.name} sends {needed}{also}: large packets are lost",
                f"set MTU={link.mtu - headers} in the virtual network, or raise that of {link.name} on the node",
            )


def _router(path: NicPath) -> Iterator[Fault]:
    own = {str(ipaddress.ip_interface(one)) for one in path.nic.addresses}
    given = any(":" in one for one in (*path.gateways, *(set(path.addresses) - own)))
    if path.nic.method6 is Method.AUTO and not given:
        yield Fault(
            Hop.GATEWAY,
            f"no router has advertised itself to {path.nic.name}",
            "see that one does in that network (IP6_METHOD=auto asks for it), and that its switch lets multicast pass",
        )


def _gateway(path: NicPath) -> Iterator[Fault]:
    for neighbour in path.neighbours:
        if neighbour.state in _SILENT:
            asked = "neighbour discovery" if ":" in neighbour.address else "ARP"
            yield Fault(
                Hop.GATEWAY,
                f"gateway {neighbour.address} does not answer {asked}",
                _silence(path),
            )


def _silence(path: NicPath) -> str:
    if physical_device(path.nic) is None and not path.other_ports:
        return (
            f"bridge {path.nic.bridge} leads nowhere: name PHYDEV in the virtual network, or give the node the address"
        )
    return "see that it exists in that network, and that the switch port carries this network's VLAN"


def _losses(path: NicPath) -> Iterator[Fault]:
    for hit in path.rules or ():
        if hit.lately and hit.rule in _DROPPED:
            way = "into the VM" if hit.rule.startswith("in") else "out of the VM"
            yield Fault(
                Hop.RULES,
                f"security groups drop packets {way} just now ({hit.packets} so far)",
                "allow them in a security group of the NIC, if they are wanted",
            )
    for hit in path.forged or ():
        if hit.lately and hit.rule != _RATE:
            yield Fault(
                Hop.SPOOFING,
                f"the spoofing filter drops packets of the VM just now ({hit.rule}: {hit.packets} so far)",
                "the VM sends with an address that is not its own: give it an alias, or look what it does",
            )
    for hop, link in (
        (Hop.CONTAINER, path.inside),
        (Hop.HOST, path.host),
        (Hop.UPLINK, path.uplink),
        (Hop.DEVICE, path.device),
    ):
        if link is not None and link.lost_lately:
            limit = ": its bandwidth limit is reached" if link.queue is not None and link.queue.dropped else ""
            yield Fault(
                hop,
                f"{link.name} loses packets just now, {link.lost_lately} while this was read{limit}",
                "raise INBOUND_… and OUTBOUND_… of the NIC" if limit else "look at ip -s -s link on the node",
            )


def physical_device(nic: Nic) -> str | None:
    """The device by which a NIC's frames leave the node, if they do."""
    return nic.uplink.phydev if nic.uplink is not None else nic.phydev
