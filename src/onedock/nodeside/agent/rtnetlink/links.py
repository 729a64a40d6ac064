"""What the kernel says of links, as far as plans need it."""

import struct
from dataclasses import dataclass
from typing import Self

from onedock.nodeside.agent.attributes import Attributes, attributes, number, text
from onedock.nodeside.agent.rtnetlink.structs import LINK

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_MASTER = 1, 3, 4, 5, 6, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_EXT_MASK = 18, 20, 26, 27, 29
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
_SKIP_STATISTICS = 8
"""RTEXT_FILTER_SKIP_STATS: two thirds of what the kernel tells of a link, and of the time to read it."""

_EXT_MASK = struct.Struct("=HHI")


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says of a link."""

    index: int
    flags: int
    kind: str
    """``bridge``, ``veth``…; empty for hardware."""
    attributes: Attributes
    """IFLA_… by number."""
    data: Attributes
    """What its kind adds, by numbers of its own."""
    raw: bytes
    """The whole body."""

    @classmethod
    def parse(cls, answer: bytes) -> Self:
        """From the body of RTM_NEWLINK."""
        _, _, index, flags, _ = LINK.unpack_from(answer)
        found = attributes(answer, LINK.size)
        info = attributes(found.get(IFLA_LINKINFO, b""))
        return cls(
            index, flags, text(info.get(IFLA_INFO_KIND)), found, attributes(info.get(IFLA_INFO_DATA, b"")), answer
        )

    @property
    def name(self) -> str:
        """Its name."""
        return text(self.attributes.get(IFLA_IFNAME))

    @property
    def up(self) -> bool:
        """Whether it is to be up."""
        return bool(self.flags & IFF_UP)

    @property
    def limited(self) -> bool:
        """Whether something that is not there by default delays what leaves it."""
        return text(self.attributes.get(IFLA_QDISC)) not in {"", "noqueue", "noop"}

    def number(self, attribute: int) -> int:
        """A 32-bit attribute; 0: it has none."""
        return number(self.attributes.get(attribute))


def question(index: int = 0) -> bytes:
    """What asks for a link, without its statistics; 0: for all of them, or the one that attributes name."""
    return LINK.pack(0, 0, index, 0, 0) + _EXT_MASK.pack(_EXT_MASK.size, IFLA_EXT_MASK, _SKIP_STATISTICS)
