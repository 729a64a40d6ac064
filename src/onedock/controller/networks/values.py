"""Values of attributes, read strictly: numbers, names, addresses, lists. Every text may be hostile."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from onedock.controller.documents import Attributes, parse_id
from onedock.reconcilers.errors import TerminalError

YES = frozenset({"yes", "true", "on", "1"})
NO = frozenset({"no", "false", "off", "0"})
VLANS = range(1, 4095)
"""The VLAN ids of IEEE 802.1Q that may be used."""

_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
_VLAN_LIST = re.compile(r"[0-9]{1,4}(\s*[-,]\s*[0-9]{1,4})*", re.ASCII)
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,14}")


@dataclass(frozen=True, slots=True)
class Source:
    """One NIC element with its part of the context, and what to call it in a message."""

    where: str
    """``NIC 1 (network 'private')``."""
    nic: Attributes
    context: Attributes
    """The VM's whole context."""
    prefix: str
    """Of the NIC's attributes in the context: ``ETH1_``, ``ETH1_ALIAS0_``."""

    def text(self, name: str) -> str:
        """Attribute ``name`` of the NIC, stripped; empty when it has none."""
        return self.nic.get(name, "").strip()

    def either(self, context_name: str, *nic_names: str) -> str:
        """What the context says, else the first of the NIC's attributes ``nic_names`` that says something.

        Mask, IPv6 gateway, search domain, routes and the guest's MTU stand in the context only, unless oned.conf has
        them inherited (protocol reference 6.4 and trap 20).
        """
        values = (self.context.get(f"{self.prefix}{context_name}", ""), *(self.nic.get(name, "") for name in nic_names))
        return next((text for value in values if (text := value.strip())), "")

    def refusal(self, text: str) -> TerminalError:
        """The error that says ``text`` of this NIC."""
        return TerminalError(f"{self.where}: {text}")

    def number(self, name: str, text: str, allowed: range) -> int | None:
        """``text`` as a number within ``allowed``; None when empty. Raises TerminalError."""
        if not text:
            return None
        value = int(text) if _NUMBER.fullmatch(text) else -1
        if value not in allowed:
            raise self.refusal(f"{name} must be a number from {allowed.start} to {allowed.stop - 1}, not {text[:20]!r}")
        return value

    def device(self, name: str, text: str) -> str:
        """``text``, if it can be the name of a network device. Raises TerminalError."""
        if not _DEVICE.fullmatch(text):
            raise self.refusal(f"{name} is not a device name of at most 15 characters: {text[:40]!r}")
        return text

    def phydev(self) -> str | None:
        """PHYDEV; None when there is none. Raises TerminalError."""
        text = self.text("PHYDEV")
        return self.device("PHYDEV", text) if text else None

    def yes(self, name: str) -> bool:
        """Whether attribute ``name`` says yes; every other text than yes and its like means no, as for oned."""
        return self.text(name).lower() in YES


def nic_id(nic: Attributes) -> int:
    """NIC_ID. Raises TerminalError."""
    index = parse_id(nic.get("NIC_ID", ""))
    if index is None:
        raise TerminalError(f"NIC_ID is not a number: {nic.get('NIC_ID', '')[:40]!r}")
    return index


def address(text: str, what: str) -> str:
    """The IP address ``text`` in its canonical spelling. Raises TerminalError."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise TerminalError(f"{what} is not an IP address: {text[:60]!r}") from None
    if "%" in text:  # any text may follow, line ends included
        raise TerminalError(f"{what} must be an address without a zone, not {text[:60]!r}")
    return str(parsed)


def pairs(text: str) -> Mapping[str, str]:
    """``a=1,b=,c=3`` as OpenNebula reads CONF and its like: what has no ``=`` is left out, the last one counts."""
    found = (part.partition("=") for part in text.split(","))
    return {name.strip().lower(): value.strip() for name, sign, value in found if sign and name.strip()}


def vlan_list(source: Source, name: str) -> tuple[int, ...]:
    """VLAN ids like ``1-5,7``, expanded and sorted; a range may run backwards, as in the stock driver (nic.rb).

    Raises:
        TerminalError: anything else.
    """
    text = source.text(name)
    if not text:
        return ()
    if not _VLAN_LIST.fullmatch(text):
        raise source.refusal(f"{name} must be VLAN ids like 10,20-29, not {text[:40]!r}")
    found: set[int] = set()
    for part in text.split(","):
        ends = sorted(int(number) for number in part.split("-"))
        if len(ends) > 2 or ends[0] not in VLANS or ends[-1] not in VLANS:
            raise source.refusal(f"{name} must be VLAN ids from 1 to 4094, not {part.strip()[:20]!r}")
        found.update(range(ends[0], ends[-1] + 1))
    return tuple(sorted(found))
