"""Addresses and networks, each parsed and written once: the same few of a VM are looked at again and again."""

import ipaddress
from functools import lru_cache

_REMEMBERED = 2048
"""Those of the VMs that are looked at just now; a few hundred bytes each."""

ip_address = lru_cache(_REMEMBERED)(ipaddress.ip_address)
ip_interface = lru_cache(_REMEMBERED)(ipaddress.ip_interface)
ip_network = lru_cache(_REMEMBERED)(ipaddress.ip_network)


@lru_cache(_REMEMBERED)
def spelled(packed: bytes) -> str:
    """An address of four or sixteen bytes as text."""
    return str(ipaddress.ip_address(packed))
