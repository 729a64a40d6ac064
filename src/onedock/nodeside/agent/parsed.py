"""Addresses and networks, each parsed once: plans look at the same few of a VM again and again."""

import ipaddress
from functools import lru_cache

_REMEMBERED = 2048
"""Those of the VMs that are looked at just now; a few hundred bytes each."""

ip_address = lru_cache(_REMEMBERED)(ipaddress.ip_address)
ip_interface = lru_cache(_REMEMBERED)(ipaddress.ip_interface)
ip_network = lru_cache(_REMEMBERED)(ipaddress.ip_network)
