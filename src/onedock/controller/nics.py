"""The network of a VM: NICs, aliases and resolver from its NIC elements and its context.

Pure. NIC elements have no mask, no IPv6 gateway and no search domain: those stand only in the context's ``ETHn_…``
attributes (protocol reference 6.4 and trap 20).
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import replace

from onedock.config.settings import ContainerSettings
from onedock.controller.documents import Attributes, VmDocument, parse_id
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_DEVICE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")
_SUPPORTED = frozenset({"bridge", "dummy"})
_MTU_RANGE = range(68, 65536)


def build_network(
    vm: VmDocument, *, hostname: str, settings: ContainerSettings, leave_out_marked: bool = False
) -> tuple[Network, tuple[tuple[str, str], ...]]:
    """The VM's network, and the (name, address) pairs for its /etc/hosts.

    Args:
        vm: the VM.
        hostname: its host name.
        settings: defaults.
        leave_out_marked: without the NIC or alias that DETACHNIC is about (protocol reference 2.2).

    Raises:
        TerminalError: a NIC that cannot be plugged as asked.
    """
    if leave_out_marked:
        vm = replace(vm, nics=_unmarked(vm.nics), aliases=_unmarked(vm.aliases))
    nics = tuple(
        _nic(vm, nic, position, settings.default_prefix_length)
        for position, nic in enumerate(sorted(vm.nics, key=lambda nic: _nic_id(nic)))
    )
    first = next((address.split("/")[0] for nic in nics for address in nic.addresses), None)
    return Network(vm.id, nics), ((hostname, first),) if first else ()


def _unmarked(nics: tuple[Attributes, ...]) -> tuple[Attributes, ...]:
    return tuple(nic for nic in nics if nic.get("ATTACH", "").upper() != "YES")


def resolver(vm: VmDocument, extra: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(name servers, search domains) of all NICs in order, without repetitions; ``extra`` servers last."""
    context = vm.context or {}
    servers: dict[str, None] = {}
    domains: dict[str, None] = {}
    for nic in sorted(vm.nics, key=_nic_id):
        prefix = f"ETH{_nic_id(nic)}_"
        for word in (context.get(f"{prefix}DNS") or nic.get("DNS") or "").split():
            servers[_address(word, "DNS")] = None
        for word in (context.get(f"{prefix}SEARCH_DOMAIN") or nic.get("SEARCH_DOMAIN") or "").split():
            domains[word] = None
    servers.update(dict.fromkeys(extra))
    return tuple(servers), tuple(domains)


def _nic_id(nic: Attributes) -> int:
    index = parse_id(nic.get("NIC_ID", ""))
    if index is None:
        raise TerminalError(f"NIC_ID is not a number: {nic.get('NIC_ID', '')[:40]!r}")
    return index


def _address(text: str, what: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise TerminalError(f"{what} is not an IP address: {text[:60]!r}") from None
    if "%" in text:  # any text may follow, line ends included
        raise TerminalError(f"{what} must be an address without a zone, not {text[:60]!r}")
    return str(address)


def _nic(vm: VmDocument, nic: Attributes, position: int, default_prefix: int) -> Nic:
    index = _nic_id(nic)
    driver = nic.get("VN_MAD", "")
    where = f"NIC {index} (network {nic.get('NETWORK', '?')[:30]!r})"
    if driver not in _SUPPORTED:
        raise TerminalError(f"{where}: VN_MAD={driver[:20]!r} is not supported yet; use a network with VN_MAD=bridge")
    if nic.get("BRIDGE_TYPE", "linux") not in {"linux", ""}:
        raise TerminalError(
            f"{where}: BRIDGE_TYPE={nic['BRIDGE_TYPE'][:20]!r} is not supported yet; use a Linux bridge"
        )
    bridge = _device(nic.get("BRIDGE", ""), f"{where}: BRIDGE")
    mac = nic.get("MAC", "").lower()
    if not _MAC.match(mac):
        raise TerminalError(f"{where}: MAC is not an address: {mac[:40]!r}")
    context = vm.context or {}
    mtu = _mtu(context.get(f"ETH{index}_MTU") or nic.get("MTU") or "", where)
    phydev = nic.get("PHYDEV", "") if driver == "bridge" else ""
    return Nic(
        index=index,
        name=f"eth{position}",
        host_name=_device(nic.get("TARGET") or f"one-{vm.id}-{index}", f"{where}: TARGET"),
        mac=mac,
        bridge=bridge,
        addresses=tuple(dict.fromkeys(_addresses(vm, nic, index, default_prefix))),
        gateways=_gateways(context, nic, index),
        mtu=mtu,
        phydev=_device(phydev, f"{where}: PHYDEV") if phydev else None,
    )


def _device(name: str, what: str) -> str:
    if not _DEVICE.match(name) or name in {".", ".."}:
        raise TerminalError(f"{what} is not a device name of at most 15 characters: {name[:40]!r}")
    return name


def _mtu(text: str, where: str) -> int | None:
    if not text.strip():
        return None
    mtu = parse_id(text.strip())
    if mtu not in _MTU_RANGE:
        raise TerminalError(f"{where}: MTU must be a number from 68 to 65535, not {text[:20]!r}")
    return mtu


def _addresses(vm: VmDocument, nic: Attributes, index: int, default_prefix: int) -> Iterator[str]:
    context = vm.context or {}
    yield from _own_addresses(context, nic, f"ETH{index}_", default_prefix)
    aliases = [alias for alias in vm.aliases if alias.get("PARENT_ID") == str(index)]
    for alias in aliases:
        if alias.get("EXTERNAL", "").upper() != "YES":
            prefix = f"ETH{index}_ALIAS{alias.get('ALIAS_ID', '')}_"
            yield from _own_addresses(context, alias, prefix, default_prefix)


def _own_addresses(context: Attributes, nic: Attributes, prefix: str, default_prefix: int) -> Iterator[str]:
    if ip := (context.get(f"{prefix}IP") or nic.get("IP") or "").strip():
        mask = (context.get(f"{prefix}MASK") or nic.get("NETWORK_MASK") or "").strip()
        yield _with_prefix(ip, mask or str(default_prefix))
    length = (context.get(f"{prefix}IP6_PREFIX_LENGTH") or "64").strip()
    for name in ("IP6", "IP6_GLOBAL", "IP6_ULA"):
        if ip6 := (context.get(f"{prefix}{name}") or nic.get(name) or "").strip():
            yield _with_prefix(ip6, length)


def _with_prefix(address: str, mask: str) -> str:
    try:
        return str(ipaddress.ip_interface(f"{_address(address, 'IP')}/{mask}"))
    except ValueError:
        raise TerminalError(f"{address[:45]}/{mask[:20]} is not an address with its mask") from None


def _gateways(context: Attributes, nic: Attributes, index: int) -> tuple[str, ...]:
    """The default gateways, at most one per family."""
    found: dict[int, str] = {}
    for name, fallback in (("GATEWAY", "GATEWAY"), ("IP6_GATEWAY", "GATEWAY6")):
        if text := (context.get(f"ETH{index}_{name}") or nic.get(fallback) or "").strip():
            gateway = _address(text, name)
            found.setdefault(ipaddress.ip_address(gateway).version, gateway)
    return tuple(found.values())
