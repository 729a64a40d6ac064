"""Uplinks, switch ports and options of links."""

from collections.abc import Mapping

from onedock.nodeside.agent.validate.words import (
    InvalidRequestError,
    check_count,
    check_link_name,
    check_number,
    version_of_address,
)
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import OvsPort, Switch, TrunkPort, Uplink, Vlan, Vxlan

VLANS = range(1, 4095)
MTUS = range(68, 65536)
MAX_REMOTES = 4096
MAX_OVS_OPTIONS = 64

_BIT, _BYTE, _SHORT, _WORD = range(2), range(2**8), range(2**16), range(2**32)
BRIDGE_OPTIONS: Mapping[str, range] = (
    dict.fromkeys(("forward_delay", "hello_time", "max_age", "ageing_time"), _WORD)
    | dict.fromkeys(("priority", "group_fwd_mask"), _SHORT)
    | {"vlan_default_pvid": range(4095), "mcast_router": range(3)}
    | dict.fromkeys(("stp_state", "vlan_filtering", "vlan_stats_enabled", "mcast_stats_enabled"), _BIT)
    | dict.fromkeys(("mcast_snooping", "mcast_querier", "mcast_query_use_ifaddr"), _BIT)
    | dict.fromkeys(("nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables"), _BIT)
    | {"mcast_hash_max": _WORD}
)
"""What follows ``IFLA_BR_`` in linux/if_link.h, in lower case."""
VLAN_OPTIONS: Mapping[str, range] = dict.fromkeys(
    ("reorder_hdr", "gvrp", "mvrp", "loose_binding", "bridge_binding"), _BIT
) | {"protocol": _SHORT}
"""Flags of linux/if_vlan.h, and the Ethernet type of the tag."""
VXLAN_OPTIONS: Mapping[str, range] = (
    dict.fromkeys(("proxy", "rsc", "l2miss", "l3miss", "learning"), _BIT)
    | dict.fromkeys(("udp_csum", "udp_zero_csum6_tx", "udp_zero_csum6_rx"), _BIT)
    | {"tos": _BYTE, "ttl": _BYTE, "ageing": _WORD, "limit": _WORD, "df": range(3)}
    | {"port": range(1, 65536), "label": range(2**20)}
)
"""What follows ``IFLA_VXLAN_`` in linux/if_link.h, in lower case."""
_TAGS = frozenset({0x8100, 0x88A8})


def check_switching(where: str, nic: Nic) -> None:
    """Raise InvalidRequestError for what no bridge, uplink or port can be."""
    check_options(where, "bridge", nic.bridge_options, BRIDGE_OPTIONS)
    if nic.uplink is not None:
        check_uplink(where, nic.uplink)
        if nic.uplink.name in {nic.bridge, nic.host_name, nic.uplink.phydev, nic.phydev}:
            raise InvalidRequestError(f"{where}: {nic.uplink.name} is uplink and something else at once; rename one")
    if nic.trunk is not None:
        _check_trunk(where, nic.trunk)
    if nic.ovs is not None:
        _check_ovs(where, nic.ovs)
    if nic.trunk is not None and nic.switch is Switch.OPENVSWITCH:
        raise InvalidRequestError(f"{where}: a trunk is for Linux bridges; use the port's own for Open vSwitch")
    if nic.ovs is not None and nic.switch is not Switch.OPENVSWITCH:
        raise InvalidRequestError(f"{where}: an Open vSwitch port on a Linux bridge; correct BRIDGE_TYPE")


def check_options(where: str, kind: str, options: tuple[tuple[str, str], ...], known: Mapping[str, range]) -> None:
    """Raise InvalidRequestError for an option that the kernel does not know, or a value that it cannot have."""
    check_count(where, f"options of a {kind}", len(options), len(known))
    for name, value in options:
        if name not in known:
            raise InvalidRequestError(
                f"{where}: {name[:40]!r} is no option of a {kind} that can be set; known are {', '.join(sorted(known))}"
            )
        if not (value.isascii() and value.isdecimal() and len(value) <= 10 and int(value) in known[name]):
            last = known[name].stop - 1
            raise InvalidRequestError(f"{where}: {kind} option {name} is a number to {last}; not {value[:40]!r}")


def check_uplink(where: str, uplink: Uplink) -> None:
    """Raise InvalidRequestError for an uplink that no kernel could make."""
    check_link_name(where, "uplink", uplink.name)
    check_link_name(where, "physical device", uplink.phydev)
    if uplink.mtu is not None:
        check_number(where, f"MTU of {uplink.name}", uplink.mtu, MTUS)
    if isinstance(uplink, Vlan):
        check_number(where, "VLAN id", uplink.vlan_id, VLANS)
        check_options(where, "VLAN link", uplink.options, VLAN_OPTIONS)
        if int(dict(uplink.options).get("protocol", 0x8100)) not in _TAGS:
            raise InvalidRequestError(f"{where}: a VLAN's protocol is 33024 (802.1Q) or 34984 (802.1ad); use one")
        return
    _check_vxlan(where, uplink)


def _check_vxlan(where: str, uplink: Vxlan) -> None:
    check_number(where, "VXLAN id", uplink.vni, range(2**24))
    check_number(where, "VXLAN port", uplink.port, range(1, 65536))
    if uplink.ttl is not None:
        check_number(where, "VXLAN TTL", uplink.ttl, _BYTE)
    check_options(where, "VXLAN link", uplink.options, VXLAN_OPTIONS)
    check_count(where, "VXLAN remotes", len(uplink.remotes), MAX_REMOTES)
    versions = {version_of_address(where, "a VXLAN remote", remote) for remote in uplink.remotes}
    if uplink.group is not None:
        versions.add(version_of_address(where, "a multicast group", uplink.group, multicast=True))
        if uplink.remotes:
            raise InvalidRequestError(f"{where}: a VXLAN with multicast group and remotes; give one of them")
    if uplink.local is not None:
        versions.add(version_of_address(where, "a tunnel end", uplink.local))
    if len(versions) > 1:
        raise InvalidRequestError(f"{where}: a VXLAN with IPv4 and IPv6 addresses; use those of one family")


def _check_trunk(where: str, trunk: TrunkPort) -> None:
    check_count(where, "VLANs of a trunk", len(trunk.tagged), len(VLANS))
    for vlan in trunk.tagged:
        check_number(where, "VLAN id", vlan, VLANS)
    if trunk.untagged is not None:
        check_number(where, "VLAN id", trunk.untagged, VLANS)


def _check_ovs(where: str, port: OvsPort) -> None:
    if port.tag is not None:
        check_number(where, "VLAN id", port.tag, range(4096))
    check_count(where, "VLANs of a trunk", len(port.trunks) + len(port.cvlans), 2 * 4096)
    for vlan in (*port.trunks, *port.cvlans):
        check_number(where, "VLAN id", vlan, range(4096))
    if port.qinq_type not in {"802.1q", "802.1ad"}:
        raise InvalidRequestError(f"{where}: {port.qinq_type[:40]!r} is no kind of VLAN tag; use 802.1q or 802.1ad")
    check_count(where, "options of an Open vSwitch bridge", len(port.bridge_options), MAX_OVS_OPTIONS)
