"""The network of a VM, from its NIC elements and its context."""

from dataclasses import replace

import pytest
from pydantic import TypeAdapter
from tests.support.networks import changed, network, only
from tests.support.vm_xml import BRIDGED, element, parsed, vm_xml

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import VmDocument
from onedock.controller.networks import MAX_RULES, build_network, network_notes
from onedock.nodeside.agent.service import BODY_LIMIT
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import Network, Nic
from onedock.reconcilers.resolver import merge


def built(
    vm: VmDocument, prefix: int = 24, *, leave_out_marked: bool = False
) -> tuple[Network, tuple[tuple[str, str], ...]]:
    return build_network(
        vm,
        hostname="web.example",
        settings=ContainerSettings(default_prefix_length=prefix),
        networks_settings=NetworkSettings(),
        leave_out_marked=leave_out_marked,
    )


def test_a_plain_nic() -> None:
    assert only(BRIDGED) == Nic(
        index=0,
        name="eth0",
        host_name="one-25001-0",
        mac="02:00:0a:00:00:0a",
        bridge="onebr0",
        addresses=("10.0.0.10/24",),
    )


def test_a_vm_without_a_nic_has_an_empty_network() -> None:
    assert network() == Network(parsed(vm_xml()).id, (), ())


@pytest.mark.parametrize(
    ("mask", "address"),
    [
        ("255.255.0.0", "10.0.0.10/16"),
        ("255.255.255.128", "10.0.0.10/25"),
        ("20", "10.0.0.10/20"),
        ("", "10.0.0.10/24"),
    ],
)
def test_masks(mask: str, address: str) -> None:
    assert only(BRIDGED, {"ETH0_IP": "10.0.0.10", "ETH0_MASK": mask}).addresses == (address,)
    assert only(changed(NETWORK_MASK=mask)).addresses == (address,)


@pytest.mark.parametrize("mask", ["255.0.255.0", "33", "-1", "x", "9" * 5000, "255.255.255.0.0", "/24"])
def test_masks_that_are_none(mask: str) -> None:
    with pytest.raises(TerminalError, match="with its mask"):
        only(BRIDGED, {"ETH0_MASK": mask})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"IP": "10.0.0.255"}, "10.0.0.255/24 is the broadcast address of its subnet; correct NETWORK_MASK"),
        ({"IP": "0.0.0.0"}, "0.0.0.0 can be nobody's address; correct the address range"),
        ({"IP6": "ff02::1"}, "ff02::1 can be nobody's address"),
        ({"IP6_ULA": "::1"}, "::1 can be nobody's address"),
        ({"IP6": "fe80::5"}, "fe80::5 is an address of the link, which the kernel gives"),
    ],
)
def test_addresses_that_no_kernel_has(values: dict[str, str], reason: str) -> None:
    with pytest.raises(TerminalError) as caught:
        only(changed(**values))
    assert str(caught.value).startswith(f"NIC 0 (network 'private'): {reason}")
    assert only(changed(METHOD="skip", IP6_METHOD="skip", **values)).addresses == ()


@pytest.mark.parametrize("mask", ["31", "32", "16"])
def test_the_last_address_of_a_small_or_large_subnet(mask: str) -> None:
    assert only(changed(IP="10.0.0.255", NETWORK_MASK=mask)).addresses == (f"10.0.0.255/{mask}",)


def test_a_router_is_not_routed_by_itself() -> None:
    """Its NIC has the address that the network names as the gateway of everybody."""
    values = {"IP": "10.0.0.1", "GATEWAY": "10.0.0.1", "IP6": "fd00::1", "GATEWAY6": "FD00:0::1"}
    assert only(changed(**values)).gateways == ()
    assert only(changed(**{**values, "IP": "10.0.0.2"})).gateways == ("10.0.0.1",)


def test_the_prefix_of_last_resort_is_a_setting() -> None:
    (nic,) = built(parsed(vm_xml()), 20)[0].nics
    assert nic.addresses == ("10.0.0.10/20",)


def test_ipv6_with_its_prefix_and_its_gateway() -> None:
    nic = only(
        changed(IP6="fd00::10", IP6_ULA="FD00:0::11"),
        {"ETH0_IP6_PREFIX_LENGTH": "48", "ETH0_IP6_GATEWAY": "fd00::1", "ETH0_GATEWAY": "10.0.0.1"},
    )
    assert nic.addresses == ("10.0.0.10/24", "fd00::10/48", "fd00::11/48")
    assert nic.gateways == ("10.0.0.1", "fd00::1")


def test_an_address_said_twice_is_one_address() -> None:
    nic = only(changed(IP6="fd00:0::10", IP6_GLOBAL="fd00::10"), {"ETH0_IP6": "fd00::10"})
    assert nic.addresses == ("10.0.0.10/24", "fd00::10/64")


def test_only_ipv6() -> None:
    assert only({k: v for k, v in changed(IP6="fd00::10").items() if k != "IP"}).addresses == ("fd00::10/64",)


@pytest.mark.parametrize("index", [0, 1, 6, 16, 66])
def test_each_family_has_one_gateway_at_most(index: int) -> None:
    nic = changed(NIC_ID=str(index), GATEWAY="10.0.0.1")
    assert only(nic).gateways == ("10.0.0.1",)
    assert only({**nic, "GATEWAY6": "fd00::1"}).gateways == ("10.0.0.1", "fd00::1")
    assert only(nic, {f"ETH{index}_IP6_GATEWAY": "10.0.0.2"}).gateways == ("10.0.0.1",)


def test_nics_are_named_by_their_ids_and_in_order() -> None:
    three = network(changed(NIC_ID="7"), changed(NIC_ID="10"), changed(NIC_ID="0"))
    assert [(nic.index, nic.name) for nic in three.nics] == [(0, "eth0"), (7, "eth7"), (10, "eth10")]


def test_aliases_add_addresses_after_the_nics_own() -> None:
    alias = {"NIC_ID": "2", "ALIAS_ID": "0", "PARENT_ID": "0", "IP": "10.0.0.11"}
    others = ({**alias, "ALIAS_ID": "1", "IP": "10.0.0.12", "EXTERNAL": "YES"}, {**alias, "PARENT_ID": "3"})
    nic = only(BRIDGED, {"ETH0_ALIAS0_MASK": "255.255.255.0"}, (alias, *others))
    assert nic.addresses == ("10.0.0.10/24", "10.0.0.11/24")


@pytest.mark.parametrize(("text", "mtu"), [("", None), (" ", None), ("1400", 1400), ("68", 68), ("65535", 65535)])
def test_mtu(text: str, mtu: int | None) -> None:
    assert only(changed(MTU=text)).mtu == mtu
    assert only(BRIDGED, {"ETH0_MTU": text}).mtu == mtu


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"VN_MAD": "elastic"}, "VN_MAD='elastic' is not supported; use bridge"),
        ({"VN_MAD": "nodeport"}, "VN_MAD='nodeport' is not supported; use bridge"),
        ({"VN_MAD": ""}, "VN_MAD='' is not supported; use bridge"),
        ({"NETWORK_MODE": "DUMMY", "VN_MAD": ""}, "NETWORK_MODE=dummy, a NIC in no network, is not supported; name a"),
        ({"NETWORK_MODE": "auto", "VN_MAD": ""}, "NETWORK_MODE=auto, a NIC in no network, is not supported; name a"),
        ({"VN_MAD": "x" * 1_000_000}, "is not supported; use bridge"),
        ({"VN_MAD": "vcenter\n"}, "is not supported; use bridge"),
        ({"BRIDGE_TYPE": "openvswitch"}, "BRIDGE_TYPE=openvswitch does not fit VN_MAD=bridge"),
        ({"BRIDGE_TYPE": "openvswitch_dpdk"}, "BRIDGE_TYPE='openvswitch_dpdk' is not supported; use linux"),
        ({"BRIDGE_TYPE": "none"}, "BRIDGE_TYPE='none' is not supported; use linux"),
        ({"BRIDGE": ""}, "BRIDGE is not a device name"),
        ({"BRIDGE": "../../etc"}, "BRIDGE is not a device name"),
        ({"BRIDGE": "a b"}, "BRIDGE is not a device name"),
        ({"BRIDGE": "$(reboot)"}, "BRIDGE is not a device name"),
        ({"BRIDGE": "br0\n"}, "BRIDGE is not a device name"),
        ({"BRIDGE": "a" * 16}, "BRIDGE is not a device name"),
        ({"BRIDGE": ".."}, "BRIDGE is not a device name"),
        ({"TARGET": "x" * 1_000_000}, "TARGET is not a device name"),
        ({"PHYDEV": "eth0;ls"}, "PHYDEV is not a device name"),
        ({"MAC": "02:00:0a:00:00"}, "MAC is not an address"),
        ({"MAC": "02:00:0a:00:00:0a\n"}, "MAC is not an address"),
        ({"MAC": "zz:00:0a:00:00:0a"}, "MAC is not an address"),
        ({"NIC_ID": ""}, "NIC_ID is not a number"),
        ({"NIC_ID": "-1"}, "NIC_ID is not a number"),
        ({"NIC_ID": "²"}, "NIC_ID is not a number"),
        ({"NIC_ID": "9" * 5000}, "NIC_ID is not a number"),
        ({"IP": "10.0.0.300"}, "IP is not an IP address"),
        ({"IP": "10.0.0.1 10.0.0.2"}, "IP is not an IP address"),
        ({"IP": "10.0.0.1/8"}, "IP is not an IP address"),
        ({"IP6": "fe80::1%eth0\nevil"}, "without a zone"),
        ({"GATEWAY": "10.0.0.1; reboot"}, "GATEWAY is not an IP address"),
        ({"MTU": "67"}, "MTU must be a number"),
        ({"MTU": "65536"}, "MTU must be a number"),
        ({"MTU": "1400 "}, ""),
        ({"MTU": "²"}, "MTU must be a number"),
        ({"MTU": "0x500"}, "MTU must be a number"),
    ],
)
def test_what_cannot_be_plugged_is_refused_with_the_reason(values: dict[str, str], reason: str) -> None:
    if not reason:
        only(changed(**values))
        return
    with pytest.raises(TerminalError) as caught:
        only(changed(**values))
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250


def test_hosts_name_the_first_address() -> None:
    vm = parsed(vm_xml())
    assert built(vm)[1] == (("web.example", "10.0.0.10"),)
    assert built(replace(vm, nics=()))[1] == ()


def test_name_servers_and_domains_come_from_all_nics_in_order() -> None:
    vm = parsed(
        vm_xml(
            nics=(changed(NIC_ID="1", DNS="9.9.9.9 10.0.0.1"), changed(DNS="1.1.1.1")),
            context={"ETH0_DNS": "10.0.0.1  2001:DB8::1", "ETH0_SEARCH_DOMAIN": "a.example b.example",
                     "ETH1_SEARCH_DOMAIN": "b.example c.example"},
        )
    )  # fmt: skip
    first, second = built(vm)[0].nics
    assert (first.dns, second.dns) == (("10.0.0.1", "2001:db8::1"), ("9.9.9.9", "10.0.0.1"))
    merged = merge(replace(built(vm)[0], dns=("8.8.8.8", "9.9.9.9")))
    assert merged.servers == ("10.0.0.1", "2001:db8::1", "9.9.9.9", "8.8.8.8")
    assert merged.search == ("a.example", "b.example", "c.example")


@pytest.mark.parametrize("text", ["dns.example", "10.0.0.1,10.0.0.2", "fe80::1%$(x)", "10.0.0.1 nonsense"])
def test_name_servers_must_be_addresses(text: str) -> None:
    with pytest.raises(TerminalError, match="DNS"):
        built(parsed(vm_xml(nics=(changed(DNS=text),))))


ALIAS = {"NIC_ID": "2", "ALIAS_ID": "0", "PARENT_ID": "0", "IP": "10.0.0.11"}


def test_the_marked_nic_is_left_out_with_its_aliases() -> None:
    vm = parsed(vm_xml(nics=(changed(ATTACH="YES"), changed(NIC_ID="1", MAC="02:00:0a:00:00:0b")), aliases=(ALIAS,)))
    assert [nic.index for nic in built(vm)[0].nics] == [0, 1]
    assert [(nic.index, nic.addresses) for nic in built(vm, leave_out_marked=True)[0].nics] == [(1, ("10.0.0.10/24",))]


def test_the_marked_alias_is_left_out_alone() -> None:
    vm = parsed(vm_xml(aliases=(ALIAS | {"ATTACH": "YES"}, ALIAS | {"ALIAS_ID": "1", "IP": "10.0.0.12"})))
    assert built(vm)[0].nics[0].addresses == ("10.0.0.10/24", "10.0.0.11/24", "10.0.0.12/24")
    assert built(vm, leave_out_marked=True)[0].nics[0].addresses == ("10.0.0.10/24", "10.0.0.12/24")


def filtered(number: int) -> dict[str, str]:
    return dict(changed(NIC_ID=str(number), VN_MAD="fw", SECURITY_GROUPS="100"))


def test_too_many_rules_of_all_nics_are_refused() -> None:
    rule = {"SECURITY_GROUP_ID": "100", "PROTOCOL": "TCP", "RULE_TYPE": "inbound"}
    rules = tuple(rule | {"RANGE": str(port)} for port in range(8192))
    assert len(network(filtered(0), filtered(1), rules=rules).nics) == 2
    with pytest.raises(TerminalError, match="NICs have 24576 security rules together; at most 16384 work"):
        network(filtered(0), filtered(1), filtered(2), rules=rules)


def test_the_longest_rules_fit_into_a_request() -> None:
    rules = tuple(
        {"SECURITY_GROUP_ID": "100", "PROTOCOL": "TCP", "RULE_TYPE": "outbound", "SIZE": "1000",
         "RANGE": ",".join([f"{first}:65535" for first in range(50001, 50015)] + [str(10000 + number)]),
         "IP": "100.100.100.0", "IP6_GLOBAL": "2001:db8:1111:2222:3333:4444:5555:6666", "IP6_ULA": f"fd00:1::{number}"}
        for number in range(1000)
    )  # fmt: skip
    per_rule = len(TypeAdapter(Network).dump_json(network(filtered(0), rules=rules))) / len(rules)
    assert per_rule * MAX_RULES < BODY_LIMIT


@pytest.mark.parametrize("pci", [{"TYPE": "NIC", "NETWORK": "fast"}, {"NETWORK_ID": "7", "NETWORK": "fast"}])
def test_a_network_by_pci_passthrough_is_refused(pci: dict[str, str]) -> None:
    with pytest.raises(TerminalError, match="network 'fast' is attached by PCI passthrough; use a NIC without it"):
        built(parsed(vm_xml(extra=element("PCI", pci))))


def test_a_pci_device_that_is_no_nic_is_no_matter_of_networks() -> None:
    assert len(built(parsed(vm_xml(extra=element("PCI", {"ADDRESS": "0000:01:00.0"}))))[0].nics) == 1


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"SECURITY_GROUPS": "0,100, 105"}, "security groups 100,105 do nothing with VN_MAD=bridge; use fw"),
        ({"IP6_METHOD": "dhcp"}, "IP6_METHOD=dhcp is taken as auto"),
        ({"METHOD": "dhcp", "ROUTES": "10.0.0.0/8 via 10.0.0.1"}, "IPv4 ROUTES are set with METHOD=static only"),
        ({"VLAN_TAGGED_ID": "1-5"}, "VLAN_TAGGED_ID does nothing without PHYDEV"),
        ({"FILTER": "clean-traffic"}, "FILTER='clean-traffic' is libvirt's; use FILTER_IP_SPOOFING=YES"),
    ],
)
def test_what_is_not_done_is_said(values: dict[str, str], note: str) -> None:
    (said,) = network_notes(parsed(vm_xml(nics=(changed(**values),))))
    assert said.startswith("NIC 0 (network 'private'): ")
    assert note in said


def test_nothing_is_said_of_what_is_done() -> None:
    nic = changed(
        VN_MAD="fw", SECURITY_GROUPS="0,100", PHYDEV="eth1", VLAN_TAGGED_ID="5", ROUTES="10.0.0.0/8 via 10.0.0.1"
    )
    assert network_notes(parsed(vm_xml(nics=(changed(SECURITY_GROUPS="0"), nic)))) == ()
