"""A NIC as a whole."""

import re
from collections.abc import Iterable

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import Attributes, VmDocument
from onedock.controller.networks.addresses import addressing
from onedock.controller.networks.bandwidth import bandwidth
from onedock.controller.networks.options import BRIDGE, options
from onedock.controller.networks.ports import IN_BRIDGE, ovs_port, switch, trunk_port
from onedock.controller.networks.rules import rules_of
from onedock.controller.networks.uplinks import MTUS, keeps_bridge, uplink
from onedock.controller.networks.values import Source, address, nic_id
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Spoofing, Switch

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def source_of(vm: VmDocument, nic: Attributes) -> Source:
    """The NIC element ``nic`` of ``vm`` with its context. Raises TerminalError."""
    index = nic_id(nic)
    where = f"NIC {index} (network {nic.get('NETWORK', '?')[:30]!r})"
    return Source(where, nic, vm.context or {}, f"ETH{index}_")


def aliases_of(vm: VmDocument, parent: Source) -> list[Source]:
    """The aliases of a NIC, in oned's order."""
    return [
        Source(parent.where, alias, parent.context, f"{parent.prefix}ALIAS{alias.get('ALIAS_ID', '')}_")
        for alias in vm.aliases
        if alias.get("PARENT_ID") == parent.nic.get("NIC_ID")
    ]


def build_nic(vm: VmDocument, element: Attributes, settings: ContainerSettings, networks: NetworkSettings) -> Nic:
    """One NIC of ``vm``. Raises TerminalError with cause and remedy: it cannot be plugged as asked."""
    nic = source_of(vm, element)
    index = nic_id(element)
    kind = switch(nic)
    link = uplink(nic, networks)
    filters_ip = nic.yes("FILTER_IP_SPOOFING")
    layer3 = addressing(nic, aliases_of(vm, nic), default_prefix=settings.default_prefix_length, leases_only=filters_ip)
    return Nic(
        index=index,
        name=f"eth{index}",
        host_name=nic.device("TARGET", nic.text("TARGET") or f"one-{vm.id}-{index}"),
        mac=_mac(nic),
        bridge=nic.device("BRIDGE", element.get("BRIDGE", "")),
        addresses=layer3.addresses,
        gateways=layer3.gateways,
        mtu=_first(
            nic.number("GUEST_MTU", nic.either("MTU", "GUEST_MTU"), MTUS),
            link.mtu if link else nic.number("MTU", nic.text("MTU"), MTUS),
        ),
        phydev=nic.phydev() if nic.text("VN_MAD") in IN_BRIDGE else None,
        switch=kind,
        uplink=link,
        bridge_options=options(nic, "BRIDGE_CONF", BRIDGE) if kind is Switch.LINUX else (),
        keep_bridge=keeps_bridge(nic, networks),
        trunk=trunk_port(nic),
        ovs=ovs_port(nic) if kind is Switch.OPENVSWITCH else None,
        metric=layer3.metric,
        metric6=layer3.metric6,
        method=layer3.method,
        method6=layer3.method6,
        routes=layer3.routes,
        inbound=bandwidth(nic, "INBOUND"),
        outbound=bandwidth(nic, "OUTBOUND"),
        rules=rules_of(nic, vm.security_rules),
        spoofing=Spoofing(mac=nic.yes("FILTER_MAC_SPOOFING"), ip=filters_ip, addresses=layer3.others),
        probe=networks.probe_addresses,
        dns=tuple(dict.fromkeys(address(word, "DNS") for word in nic.either("DNS", "DNS").split())),
        search=tuple(dict.fromkeys(nic.either("SEARCH_DOMAIN", "SEARCH_DOMAIN").split())),
    )


def _mac(nic: Source) -> str:
    mac = nic.nic.get("MAC", "").lower()
    if not _MAC.fullmatch(mac):
        raise nic.refusal(f"MAC is not an address: {mac[:40]!r}")
    return mac


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def in_order(nics: Iterable[Attributes]) -> list[Attributes]:
    """By NIC_ID. Raises TerminalError: one has none."""
    return sorted(nics, key=nic_id)
