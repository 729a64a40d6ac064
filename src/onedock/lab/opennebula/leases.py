"""Address ranges of virtual networks: index → MAC, IPv4 and IPv6, and who holds it."""

import ipaddress

from onedock.lab.opennebula.objects import AddressRange, VirtualNetwork
from onedock.lab.opennebula.templates import Vector

MAC_PREFIX = "02:00"


class NoLeaseError(Exception):
    """No address is free, or the one asked for is taken."""


def new_range(attributes: Vector, ar_id: int) -> AddressRange:
    """An address range from the AR vector of a network template; its MAC is made from its first IPv4 address."""
    complete = dict(attributes) | {"AR_ID": str(ar_id), "SHARED": "NO"}
    if "MAC" not in complete:
        address = ipaddress.IPv4Address(complete.get("IP", f"10.254.0.{ar_id + 1}"))
        complete["MAC"] = ":".join([MAC_PREFIX, *(f"{byte:02x}" for byte in address.packed)])
    return AddressRange(complete)


def lease_at(item: AddressRange, index: int) -> Vector:
    """MAC, IP and IP6 of the address with that index, as far as the range has them."""
    mac = int(item.attributes["MAC"].replace(":", ""), 16) + index
    text = f"{mac:012x}"
    lease = {"MAC": ":".join(text[i : i + 2] for i in range(0, 12, 2))}
    for key in ("IP", "IP6"):
        if key in item.attributes:
            lease[key] = str(ipaddress.ip_address(item.attributes[key]) + index)
    return lease


def take(network: VirtualNetwork, vm_id: int, wanted: Vector) -> tuple[AddressRange, Vector]:
    """Leases an address of the network: the IP or MAC in ``wanted``, else the next free one.

    Raises:
        NoLeaseError: There is none.
    """
    for range_ in network.ranges:
        size = int(range_.attributes["SIZE"])
        asked = {key: wanted[key] for key in ("IP", "MAC") if wanted.get(key)}
        for offset in range(size):
            index = (range_.next_index + offset) % size
            if index in range_.leases:
                continue
            lease = lease_at(range_, index)
            if any(lease.get(key) != value for key, value in asked.items()):
                continue
            range_.leases[index] = vm_id
            range_.ever_leased = True
            if not asked:
                range_.next_index = (index + 1) % size
            return range_, lease
    raise NoLeaseError(f"Cannot get IP/MAC lease from virtual network {network.id}.")


def give_back(network: VirtualNetwork, vm_id: int, mac: str) -> None:
    """Frees the lease of that VM with that MAC."""
    for range_ in network.ranges:
        for index in [index for index, holder in range_.leases.items() if holder == vm_id]:
            if lease_at(range_, index)["MAC"] == mac:
                del range_.leases[index]
