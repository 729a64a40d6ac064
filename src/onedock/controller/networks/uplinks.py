"""What connects a bridge with the wire: a VLAN or VXLAN link of PHYDEV.

Attributes, and where they may stand besides the NIC, as in the stock drivers (vlan_tag_driver.rb, vxlan.rb): the
network's CONF, then the settings, which take the place of OpenNebulaNetwork.conf.
"""

import ipaddress
from collections.abc import Mapping

from onedock.config.settings import NetworkSettings
from onedock.controller.networks.options import VLAN, VXLAN, options
from onedock.controller.networks.values import NO, VLANS, YES, Source, address, pairs
from onedock.reconcilers.nic_parts import Uplink, Vlan, Vxlan

MTUS = range(68, 65536)
MAX_REMOTES = 1024

_VNIS = range(1, 2**24)
_TTLS = range(256)
_PORTS = range(1, 65536)
_LESS_OVER_IPV6 = 20
"""Bytes of a frame, as the settings' MTU is what fits over IPv4."""


def uplink(nic: Source, settings: NetworkSettings) -> Uplink | None:
    """The link that the NIC's driver makes; None for the drivers that make none.

    Raises:
        TerminalError: PHYDEV or the id is missing or wrong, or another value is.
    """
    conf = pairs(nic.text("CONF"))
    match nic.text("VN_MAD"):
        case "802.1Q":
            return _vlan(nic, conf, settings)
        case "vxlan":
            return _vxlan(nic, "VLAN_ID", conf, settings)
        case "ovswitch_vxlan":
            return _vxlan(nic, "OUTER_VLAN_ID", conf, settings)
        case _:
            return None


def keeps_bridge(nic: Source, settings: NetworkSettings) -> bool:
    """Whether the bridge, and its uplink, is to stay when it is empty. Raises TerminalError."""
    text = pairs(nic.text("CONF")).get("keep_empty_bridge", "").lower()
    if text and text not in YES | NO:
        raise nic.refusal(f"CONF: keep_empty_bridge must be true or false, not {text[:20]!r}")
    return text in YES if text else settings.keep_empty_bridge


def _base(nic: Source, id_name: str, allowed: range) -> tuple[str, str, int]:
    """(name, physical device, id) of the link, named as the stock driver does."""
    driver = nic.text("VN_MAD")
    phydev = nic.phydev()
    number = nic.number(id_name, nic.text(id_name), allowed)
    if phydev is None or number is None:
        missing = "PHYDEV" if phydev is None else id_name
        raise nic.refusal(f"VN_MAD={driver} needs {missing}; set it in the virtual network")
    name = f"{phydev}.{number}"
    if len(name) > 15:
        raise nic.refusal(f"the link {name} would have a name of more than 15 characters; rename {phydev} on the nodes")
    return name, phydev, number


def _vlan(nic: Source, conf: Mapping[str, str], settings: NetworkSettings) -> Vlan:
    name, phydev, vlan_id = _base(nic, "VLAN_ID", VLANS)
    mtu = _mtu(nic, conf, "vlan_mtu", settings.vlan_mtu)
    return Vlan(name, phydev, vlan_id, mtu, options(nic, "IP_LINK_CONF", VLAN))


def _mtu(nic: Source, conf: Mapping[str, str], name: str, default: int) -> int | None:
    text = nic.text("MTU")
    return nic.number("MTU" if text else f"CONF: {name}", text or conf.get(name, ""), MTUS) or default or None


def _vxlan(nic: Source, id_name: str, conf: Mapping[str, str], settings: NetworkSettings) -> Vxlan:
    name, phydev, vni = _base(nic, id_name, _VNIS)

    def said(option: str, *names: str) -> str:
        return nic.text(option) or next((conf[name] for name in names if conf.get(name)), "")

    link = dict(options(nic, "IP_LINK_CONF", VXLAN))
    mode = (said("VXLAN_MODE", "vxlan_mode") or settings.vxlan_mode).lower()
    tep = (said("VXLAN_TEP", "vxlan_tep") or settings.vxlan_tep).lower()
    if mode not in {"multicast", "evpn"}:
        raise nic.refusal(f"VXLAN_MODE must be multicast or evpn, not {mode[:20]!r}")
    if tep not in {"dev", "local_ip"}:
        raise nic.refusal(f"VXLAN_TEP must be dev or local_ip, not {tep[:20]!r}")
    remotes = () if mode == "evpn" else _remotes(nic, said("VXLAN_REMOTES", "vxlan_remotes"), settings)
    group = None
    if mode == "multicast" and not remotes:
        group = _group(nic, said("VXLAN_MC", "vxlan_mc", "vxlan_multicast") or settings.vxlan_multicast, vni)
    learning = link.pop("learning", None)
    ttl, port = link.pop("ttl", None) or conf.get("vxlan_ttl", ""), link.pop("port", None) or conf.get("vxlan_port", "")
    ttl_value = nic.number("CONF: vxlan_ttl", ttl, _TTLS)
    less = _LESS_OVER_IPV6 if any(":" in remote for remote in remotes) else 0
    return Vxlan(
        name,
        phydev,
        vni,
        group=group,
        remotes=remotes,
        tep="local_ip" if tep == "local_ip" and group is None else "dev",
        learning=mode != "evpn" if learning is None else learning == "1",
        ttl=settings.vxlan_ttl if ttl_value is None else ttl_value,
        port=nic.number("CONF: vxlan_port", port, _PORTS) or settings.vxlan_port,
        mtu=_mtu(nic, conf, "vxlan_mtu", max(settings.vxlan_mtu - less, 0)),
        options=tuple(sorted(link.items())),
    )


def _group(nic: Source, base: str, vni: int) -> str:
    """The base address plus the id, as the stock driver counts."""
    try:
        group = ipaddress.IPv4Address(base) + vni
    except ValueError:  # AddressValueError: no address; beyond the last one
        group = ipaddress.IPv4Address(0)
    if not group.is_multicast:
        raise nic.refusal(f"VXLAN_MC={base[:20]!r} plus {vni} is no IPv4 multicast address; use one like 239.0.0.0")
    return str(group)


def _remotes(nic: Source, text: str, settings: NetworkSettings) -> tuple[str, ...]:
    words = text.replace(",", " ").split() or settings.vxlan_remotes
    if len(words) > MAX_REMOTES:
        raise nic.refusal(f"VXLAN_REMOTES names {len(words)} nodes; at most {MAX_REMOTES} are possible")
    found = tuple(dict.fromkeys(address(word, "VXLAN_REMOTES") for word in words))
    if len({ipaddress.ip_address(remote).version for remote in found}) > 1:
        raise nic.refusal("VXLAN_REMOTES has IPv4 and IPv6 addresses; use those of one family")
    return found
