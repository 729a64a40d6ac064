"""Open vSwitch: bridges, what leads from them to the wire, and the VMs' ports.

Every port of a VM and every shared thing that ONEDock makes bears a mark in ``external_ids``; what has none was made
by others and is used as it is.
"""

from collections.abc import Iterator

from onedock.nodeside.agent.ovs_rows import KIND, MAPS, MASTER, OURS, Columns, OpenVswitch, differing, vm_mark
from onedock.nodeside.agent.plan.bridge import find_phydev, is_our_uplink
from onedock.nodeside.agent.plan.uplink import plan_uplink
from onedock.nodeside.agent.seen import HostLink, Seen
from onedock.nodeside.agent.steps import ConfigureSwitch, DeleteHostLink, RaiseHostLink, Step, Unplug
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import OvsPort, Switch

_QINQ_TAGS = 2


def plan_switch(wanted: Network, seen: Seen) -> Iterator[Step]:
    """Ports that the VM has no more are gone; bridges are there, and lead to the wire.

    Raises TerminalError when a bridge's name is used otherwise, or a physical device cannot be used.
    """
    if seen.ovs is None:
        return
    nics = tuple(nic for nic in wanted.nics if nic.switch is Switch.OPENVSWITCH)
    if stale := sorted(_stale(wanted.vm, nics, seen, seen.ovs)):
        yield _transaction(*(("--if-exists", "del-port", name) for name in stale))
    for bridge in dict.fromkeys(nic.bridge for nic in nics):
        yield from _plan_bridge(bridge, tuple(nic for nic in nics if nic.bridge == bridge), seen, seen.ovs)
    if any(nic.ovs is not None and nic.ovs.cvlans for nic in nics) and 0 < seen.ovs.vlan_limit < _QINQ_TAGS:
        yield _transaction(("set", "Open_vSwitch", ".", f"other_config:vlan-limit={_QINQ_TAGS}"))


def plan_switch_port(vm: VmId, nic: Nic, seen: Seen, host: HostLink | None) -> Iterator[Step]:
    """The NIC's host side is a port of its bridge, with its VLANs."""
    if nic.switch is not Switch.OPENVSWITCH or seen.ovs is None:
        return
    columns = port_columns(vm, nic)
    if host is None or not _is_plugged(nic, host, seen.ovs):
        if host is not None and host.master not in {None, MASTER}:
            yield Unplug(host.name)
        yield add_port(vm, nic)
    elif changed := differing(columns, seen.ovs.ports[nic.host_name].columns):
        yield _transaction(_set_port(nic.host_name, changed))


def add_port(vm: VmId, nic: Nic) -> ConfigureSwitch:
    """What makes the port of a NIC that has none."""
    return _transaction(("add-port", nic.bridge, nic.host_name), _set_port(nic.host_name, port_columns(vm, nic)))


def port_columns(vm: VmId, nic: Nic) -> Columns:
    """What the row of a NIC's port says.

    Unlike the stock driver's, a port with a tag and no trunks is an access port: as a trunk without a list it would
    let the VM into every VLAN.
    """
    port = nic.ovs or OvsPort()
    if port.cvlans:
        mode = "dot1q-tunnel"
    elif port.tag is None:
        mode = "trunk"
    else:
        mode = "native-untagged" if port.trunks else "access"
    return {
        "tag": frozenset() if port.tag is None else frozenset({str(port.tag)}),
        "trunks": frozenset() if port.cvlans else frozenset(map(str, port.trunks)),
        "cvlans": frozenset(map(str, port.cvlans)),
        "vlan_mode": frozenset({mode}),
        "other_config": frozenset({f"qinq-ethtype={port.qinq_type}"} if port.cvlans else ()),
        "external_ids": frozenset({vm_mark(vm), f"onedock-nic={nic.index}"}),
    }


def _stale(vm: VmId, nics: tuple[Nic, ...], seen: Seen, switch: OpenVswitch) -> Iterator[str]:
    """Ports of the VM that are no wanted NIC, are elsewhere, or whose link is not the one that they were made for."""
    by_name = {nic.host_name: nic for nic in nics}
    for port in switch.ports.values():
        nic, host = by_name.get(port.name), seen.host.get(port.name)
        if nic is None and not port.has_mark(vm_mark(vm)):
            continue
        if nic is None or host is None or not _is_plugged(nic, host, switch):
            yield port.name


def _is_plugged(nic: Nic, host: HostLink, switch: OpenVswitch) -> bool:
    port = switch.ports.get(nic.host_name)
    return host.master == MASTER and port is not None and port.bridge == nic.bridge


def _plan_bridge(bridge: str, nics: tuple[Nic, ...], seen: Seen, switch: OpenVswitch) -> Iterator[Step]:
    link = seen.host.get(bridge)
    if bridge not in switch.bridges:
        if link is not None:
            raise TerminalError(
                f"{bridge} is no Open vSwitch bridge on this node but a {link.kind or 'hardware'} link;"
                f" name another bridge in the network of NIC {nics[0].index}"
            )
        options = (f"{name}={value}" for name, value in (nics[0].ovs or OvsPort()).bridge_options)
        yield _transaction(("add-br", bridge), ("set", "Bridge", bridge, _key_value("external_ids", OURS), *options))
    elif link is not None and link.kind != KIND:
        raise TerminalError(
            f"bridge {bridge} of Open vSwitch is not in the kernel (datapath_type=netdev), where VMs' links are;"
            f" name another bridge in the network of NIC {nics[0].index}"
        )
    yield from _plan_shared(bridge, nics, seen, switch)


def _plan_shared(bridge: str, nics: tuple[Nic, ...], seen: Seen, switch: OpenVswitch) -> Iterator[Step]:
    """Physical devices and uplinks. The other ones that we have plugged go first: together they would join networks."""
    uplinks = {nic.uplink.name: nic.uplink for nic in nics if nic.uplink is not None}
    phydevs = dict.fromkeys(nic.phydev for nic in nics if nic.phydev is not None)
    want = {*uplinks, *phydevs}
    others = sorted(port.name for port in switch.ports_of(bridge) if port.has_mark(OURS) and port.name not in want)
    if want and others:
        yield _transaction(*(("--if-exists", "del-port", name) for name in others))
        yield from (DeleteHostLink(name) for name in others if name in seen.host and is_our_uplink(seen.host[name]))
    for uplink in uplinks.values():
        yield from plan_uplink(uplink, None, seen)
        yield from _plug(uplink.name, bridge, seen.host.get(uplink.name), switch)
    for name in phydevs:
        phydev = find_phydev(name, seen)
        yield from _plug(name, bridge, phydev, switch)
        if not phydev.up:
            yield RaiseHostLink(name)


def _plug(name: str, bridge: str, link: HostLink | None, switch: OpenVswitch) -> Iterator[Step]:
    port = switch.ports.get(name)
    elsewhere = port.bridge if port is not None else link.master if link is not None else None
    if elsewhere not in {None, bridge}:
        raise TerminalError(
            f"link {name} is in bridge {elsewhere}, not {bridge};"
            " release it there or correct BRIDGE or PHYDEV of the virtual network"
        )
    if port is not None and port.has_mark(OURS) and (link is None or link.master != MASTER):
        # The link that it was made for is gone; one of the same name is another.
        yield _transaction(("--if-exists", "del-port", name))
        port = None
    if port is None:
        mark = _key_value("external_ids", OURS)
        yield _transaction(("add-port", bridge, name), ("set", "Port", name, mark))


def _set_port(name: str, columns: Columns) -> tuple[str, ...]:
    words: list[str] = []
    for column, values in columns.items():
        if column in MAPS:
            words += (_key_value(column, value) for value in sorted(values))
        else:
            words.append(f"{column}={','.join(sorted(values)) or '[]'}")
    return ("set", "Port", name, *words)


def _key_value(column: str, pair: str) -> str:
    return f"{column}:{pair}"


def _transaction(*commands: tuple[str, ...]) -> ConfigureSwitch:
    return ConfigureSwitch(tuple(word for command in commands for word in ("--", *command)))
