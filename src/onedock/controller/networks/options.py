"""Options of links and bridges: IP_LINK_CONF, BRIDGE_CONF and OVS_BRIDGE_CONF become names and numbers of netlink.

Only what is listed here can be asked for. ``iproute2`` names (those of the stock drivers) come in, what follows
``IFLA_VXLAN_`` or ``IFLA_BR_`` in the kernel's ``if_link.h`` goes out, in lower case.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onedock.controller.networks.values import NO, YES, Source, pairs

DELETE = "__delete__"
"""Takes back a default of OpenNebulaNetwork.conf; here there are none."""
MAX_OVS_OPTIONS = 64

_OVS_NAME = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9][A-Za-z0-9_.-]*)?")
_OVS_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}")


@dataclass(frozen=True, slots=True)
class Option:
    """How one option is spelled for netlink, and what it may be."""

    name: str
    allowed: range = range(2)
    """A range of two is a switch, which also takes words, or no value at all for on."""
    factor: int = 1
    words: tuple[tuple[str, int], ...] = ()


def _switches(*names: str) -> dict[str, Option]:
    return {name: Option(name) for name in names}


def _negatable(**names: str) -> dict[str, Option]:
    """``learning`` and ``nolearning``."""
    on = {word: Option(name, words=(("", 1),)) for word, name in names.items()}
    return on | {f"no{word}": Option(name, range(0), words=(("", 0),)) for word, name in names.items()}


_TIMERS = {
    "setageing": ("ageing_time", range(2**24)),
    "sethello": ("hello_time", range(1, 11)),
    "setmaxage": ("max_age", range(6, 41)),
    "setfd": ("forward_delay", range(2**24)),
}
"""brctl's options, with the seconds that the kernel takes, which counts hundredths."""


def _hundredths(seconds: range) -> range:
    return range(seconds.start * 100, seconds[-1] * 100 + 1)


VLAN: Mapping[str, Option] = _switches("reorder_hdr", "gvrp", "mvrp", "loose_binding", "bridge_binding") | {
    "protocol": Option("protocol", range(0), words=(("802.1q", 0x8100), ("802.1ad", 0x88A8))),
}
VXLAN: Mapping[str, Option] = _negatable(
    learning="learning",
    proxy="proxy",
    rsc="rsc",
    l2miss="l2miss",
    l3miss="l3miss",
    udpcsum="udp_csum",
    udp6zerocsumtx="udp_zero_csum6_tx",
    udp6zerocsumrx="udp_zero_csum6_rx",
) | {
    "ttl": Option("ttl", range(256)),
    "tos": Option("tos", range(256), words=(("inherit", 1),)),
    "dstport": Option("port", range(1, 65536)),
    "ageing": Option("ageing", range(1, 2**32)),
    "maxaddress": Option("limit", range(2**32)),
    "df": Option("df", range(0), words=(("unset", 0), ("set", 1), ("inherit", 2))),
}
BRIDGE: Mapping[str, Option] = (
    {word: Option(name, seconds, factor=100) for word, (name, seconds) in _TIMERS.items()}
    | {name: Option(name, _hundredths(seconds)) for name, seconds in _TIMERS.values()}
    | {"stp": Option("stp_state"), "setbridgeprio": Option("priority", range(65536))}
    | {"priority": Option("priority", range(65536)), "group_fwd_mask": Option("group_fwd_mask", range(65536))}
    | _switches("stp_state", "mcast_snooping", "mcast_querier", "vlan_stats_enabled", "mcast_stats_enabled")
)


def options(source: Source, attribute: str, known: Mapping[str, Option]) -> tuple[tuple[str, str], ...]:
    """The options of one attribute, in the order of their names.

    Raises:
        TerminalError: an unknown option, or a value that it cannot have.
    """
    found: dict[str, str] = {}
    for word, value in pairs(source.text(attribute)).items():
        if value == DELETE:
            continue
        if (option := known.get(word)) is None:
            raise source.refusal(f"{attribute}: {word[:30]!r} is not an option that can be set; leave it out")
        found[option.name] = str(_value(source, f"{attribute}: {word}", option, value.lower()))
    return tuple(sorted(found.items()))


def _value(source: Source, name: str, option: Option, text: str) -> int:
    words = dict(option.words)
    if option.allowed == range(2):
        words |= {"": 1} | dict.fromkeys(YES, 1) | dict.fromkeys(NO, 0)
    if text in words:
        return words[text]
    if not option.allowed:
        raise source.refusal(f"{name} must be one of {', '.join(map(repr, words))}, not {text[:20]!r}")
    number = source.number(name, text, option.allowed)
    if number is None:
        raise source.refusal(f"{name} has no value; give it a number up to {option.allowed.stop - 1}")
    return number * option.factor


def ovs_options(source: Source) -> tuple[tuple[str, str], ...]:
    """OVS_BRIDGE_CONF: columns of a bridge for ``ovs-vsctl set``, by names and values that it cannot take for others.

    Raises:
        TerminalError: a name or a value with other characters.
    """
    found = {name: value for name, value in pairs(source.text("OVS_BRIDGE_CONF")).items() if value != DELETE}
    if len(found) > MAX_OVS_OPTIONS:
        raise source.refusal(f"OVS_BRIDGE_CONF has {len(found)} options; at most {MAX_OVS_OPTIONS} are possible")
    for name, value in found.items():
        if not _OVS_NAME.fullmatch(name) or not _OVS_VALUE.fullmatch(value):
            raise source.refusal(f"OVS_BRIDGE_CONF must be like stp_enable=true, not {name[:30]!r}={value[:30]!r}")
    return tuple(sorted(found.items()))
