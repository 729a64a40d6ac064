"""Virtual networks and security groups: making them from templates, and NICs from them."""

from onedock.lab.opennebula import leases
from onedock.lab.opennebula.objects import AddressRange, SecurityGroup, VirtualNetwork, Vm
from onedock.lab.opennebula.templates import Template, Vector, get, vectors

INHERITED = (
    "VLAN_TAGGED_ID",
    "FILTER",
    "FILTER_IP_SPOOFING",
    "FILTER_MAC_SPOOFING",
    "MTU",
    "METRIC",
    "IP6_METRIC",
    "METHOD",
    "IP6_METHOD",
    "INBOUND_AVG_BW",
    "INBOUND_PEAK_BW",
    "INBOUND_PEAK_KB",
    "OUTBOUND_AVG_BW",
    "OUTBOUND_PEAK_BW",
    "OUTBOUND_PEAK_KB",
    "CONF",
    "BRIDGE_CONF",
    "OVS_BRIDGE_CONF",
    "IP_LINK_CONF",
    "EXTERNAL_IP",
    "GATEWAY",
    "DNS",
    "VXLAN_MODE",
    "VXLAN_TEP",
    "VXLAN_MC",
    "CVLANS",
    "QINQ_TYPE",
    "TRUST",
    "SPOOFCHK",
)
"""Network attributes that a NIC takes over (INHERIT_VNET_ATTR of the default oned.conf)."""

FOLLOWED = (
    "PHYDEV",
    "MTU",
    "VLAN_ID",
    "QINQ_TYPE",
    "CVLANS",
    "VLAN_TAGGED_ID",
    "OUTER_VLAN_ID",
    "INBOUND_AVG_BW",
    "INBOUND_PEAK_BW",
    "INBOUND_PEAK_KB",
    "OUTBOUND_AVG_BW",
    "OUTBOUND_PEAK_BW",
    "OUTBOUND_PEAK_KB",
    "SPOOFCHK",
    "TRUST",
)
"""Network attributes whose change reaches NICs of VMs that run."""

_FIRST_VLAN = 2


class NetworkTemplateError(Exception):
    """The network cannot be made; the message is what oned answers."""


def new_network(number: int, template: Template) -> VirtualNetwork:
    """A network from the attributes of ``one.vn.allocate``.

    Raises:
        NetworkTemplateError: NAME, VN_MAD or what the driver needs is missing.
    """
    driver = get(template, "VN_MAD")
    if not driver:
        raise NetworkTemplateError("No VN_MAD in template for Virtual Network.")
    name = get(template, "NAME")
    if not name:
        raise NetworkTemplateError("No NAME in template for Virtual Network.")
    automatic = get(template, "AUTOMATIC_VLAN_ID").upper() == "YES"
    vlan = str(_FIRST_VLAN + number) if automatic else get(template, "VLAN_ID")
    ranges = [leases.new_range(vector, ar_id) for ar_id, vector in enumerate(vectors(template, "AR"))]
    kept = {key: values for key, values in template.items() if key not in ("NAME", "AR", "AUTOMATIC_VLAN_ID")}
    bridge = get(template, "BRIDGE")
    if not bridge:
        # vxlan bridges carry the network's id because several networks may share one automatic VLAN range
        bridge = f"onebr.{vlan}" if driver == "802.1Q" else f"onebr{number}"
    defaults: Template = {
        "BRIDGE": [bridge],
        "BRIDGE_TYPE": ["openvswitch" if driver.startswith("ovswitch") else "linux"],
        "OUTER_VLAN_ID": [""],
        "PHYDEV": [""],
    }
    if not automatic:
        defaults["VLAN_ID"] = [vlan]
    # every new network is in the group that lets everything pass, whatever its template says
    groups = {int(text) for text in get(template, "SECURITY_GROUPS").split(",") if text.strip()} | {0}
    kept["SECURITY_GROUPS"] = [",".join(str(group) for group in sorted(groups))]
    return VirtualNetwork(number, name, defaults | kept, vlan, automatic, ranges)


def new_nic(network: VirtualNetwork, asked: Vector, vm_id: int, nic_id: int) -> Vector:
    """A NIC (or NIC_ALIAS) of a VM on this network, with a lease taken.

    Raises:
        onedock.lab.opennebula.leases.NoLeaseError: No address is free.
    """
    range_, lease = leases.take(network, vm_id, asked)
    nic = dict(asked) | lease
    nic |= {
        "AR_ID": range_.attributes["AR_ID"],
        "BRIDGE": get(network.template, "BRIDGE"),
        "BRIDGE_TYPE": get(network.template, "BRIDGE_TYPE"),
        "CLUSTER_ID": "0",
        "NETWORK": network.name,
        "NETWORK_ID": str(network.id),
        "NIC_ID": str(nic_id),
        "TARGET": f"one-{vm_id}-{nic_id}",
        "VN_MAD": get(network.template, "VN_MAD"),
    }
    for name, value in (("PHYDEV", get(network.template, "PHYDEV")), ("VLAN_ID", network.vlan_id)):
        if value:
            nic[name] = value
    for name in INHERITED:
        value = range_.attributes.get(name) or get(network.template, name)
        if value and name not in nic:
            nic[name] = value
    nic.setdefault("NAME", f"NIC{nic_id}")
    groups = [group for source in (asked, range_.attributes) for group in source.get("SECURITY_GROUPS", "").split(",")]
    groups = sorted({*groups, *get(network.template, "SECURITY_GROUPS").split(",")} - {""}, key=int)
    nic["SECURITY_GROUPS"] = ",".join(groups)
    return nic


def range_of(network: VirtualNetwork, nic: Vector) -> AddressRange:
    """The address range that the NIC's lease is from."""
    return next(range_ for range_ in network.ranges if range_.attributes["AR_ID"] == nic["AR_ID"])


def used_groups(vm: Vm) -> list[int]:
    """Ids of the security groups of all NICs, in their first order of appearance."""
    nics = vectors(vm.template, "NIC") + vectors(vm.template, "NIC_ALIAS")
    texts = [text for nic in nics for text in nic["SECURITY_GROUPS"].split(",") if text]
    return list(dict.fromkeys(int(text) for text in texts))


def used_networks(vm: Vm) -> set[int]:
    """Ids of the networks of all NICs and aliases."""
    return {int(nic["NETWORK_ID"]) for nic in vectors(vm.template, "NIC") + vectors(vm.template, "NIC_ALIAS")}


def changes_of(network: VirtualNetwork, template: Template) -> Vector:
    """Which attributes that VMs follow would change with the new template: name → old value."""
    names = [name for name in FOLLOWED if get(template, name) != get(network.template, name)]
    return {name: get(network.template, name) for name in names}


def take_over(vm: Vm, network: VirtualNetwork) -> bool:
    """Give the VM's NICs what has changed in their network, except what they were given of their own.

    Returns whether anything is to be told to the driver; the old values are in VNET_UPDATE then.
    """
    touched = False
    for nic in vectors(vm.template, "NIC"):
        if nic["NETWORK_ID"] != str(network.id):
            continue
        for name, old in network.changes.items():
            if nic.get(name, old) != old:
                continue
            value = range_of(network, nic).attributes.get(name) or get(network.template, name)
            if value:
                nic[name] = value
            else:
                nic.pop(name, None)
            touched = True
    if touched:
        vm.template["VNET_UPDATE"] = [dict(network.changes)]
    return touched


def set_rules(vm: Vm, groups: dict[int, SecurityGroup]) -> None:
    """Writes the rules of all used security groups into the VM."""
    rules = [
        rule | {"SECURITY_GROUP_ID": str(number), "SECURITY_GROUP_NAME": groups[number].name}
        for number in sorted(used_groups(vm))
        if number in groups
        for rule in vectors(groups[number].template, "RULE")
    ]
    vm.template.pop("SECURITY_GROUP_RULE", None)
    if rules:
        vm.template["SECURITY_GROUP_RULE"] = list(rules)
