"""The links of one namespace as hops on a way. Reads only, each link once; for threads."""

import errno
import ipaddress
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.reading import dump
from onedock.reconcilers.model import Nic
from onedock.reconcilers.path import Counters, Neighbour, PathLink, Queue

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_BLOCKED = frozenset({1, 2, 4})
"""States of a port: listening, learning, blocking. A port that is disabled is down, or its bridge is."""
_ROOT = 0xFFFFFFFF
_SCOPE_LINK = 253
_TABLE_MAIN = 254
_NUD = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}


class Links:
    """One namespace, through a socket in it."""

    def __init__(self, socket: IPRoute) -> None:
        self._socket = socket
        self._answers: dict[str, Any] = {}

    def link(self, name: str) -> PathLink | None:
        """The link with all that it shows of itself; None: there is none."""
        answer = self._answer(name)
        if answer is None:
            return None
        master = self._name(answer.get("master"))
        port = answer.get(("linkinfo", "slave_data"))
        state = port.get("IFLA_BRPORT_STATE") if isinstance(port, dict) else None
        stats = answer.get("stats64") or {}
        return PathLink(
            name=name,
            up=bool(answer["flags"] & _IFF_UP),
            carrier=bool(answer["flags"] & _IFF_LOWER_UP),
            mtu=answer.get("mtu"),
            kind=answer.get(("linkinfo", "kind")) or "",
            mac=answer.get("address") or "",
            master=master,
            forwarding=state not in _BLOCKED,
            counters=Counters(**{name: stats.get(name, 0) for name in Counters.__dataclass_fields__}),
            queue=self._queue(answer["index"]),
        )

    def index(self, name: str) -> int:
        """Index of a link; 0: there is none."""
        answer = self._answer(name)
        return answer["index"] if answer is not None else 0

    def peer(self, name: str) -> int:
        """Index of the other end of a veth, where that is."""
        answer = self._answer(name)
        return (answer.get("link") or 0) if answer is not None else 0

    def ports(self, bridge: str) -> set[str]:
        """Names of the links that are plugged into a bridge."""
        index = self.index(bridge)
        if not index:
            return set()
        return {answer.get("ifname") for answer in dump(lambda: self._socket.get_links(master=index))}

    def vlans(self, nic: Nic) -> tuple[str, ...]:
        """Of the NIC's port, where the bridge filters them."""
        index = self.index(nic.host_name)
        if nic.trunk is None or not index:
            return ()
        answers = dump(lambda: self._socket.vlan("dump", dump_filter=lambda _: True, ifindex=index))
        return tuple(text for answer in answers if answer["ifindex"] == index for text in _port_vlans(answer))

    def addresses(self, name: str) -> tuple[str, ...]:
        """CIDR strings, without those of the link itself."""
        if not (index := self.index(name)):
            return ()
        return tuple(
            f"{answer.get('local') or answer.get('address')}/{answer['prefixlen']}"
            for answer in dump(lambda: self._socket.get_addr(index=index))
            if answer["index"] == index and answer["scope"] != _SCOPE_LINK
        )

    def gateways(self, name: str) -> tuple[str, ...]:
        """Of all default routes by the link."""
        if not (index := self.index(name)):
            return ()
        routes = dump(lambda: self._socket.get_routes(table=_TABLE_MAIN, oif=index))
        found = [route.get("gateway") for route in routes if route["dst_len"] == 0 and route.get("oif") == index]
        return tuple(dict.fromkeys(gateway for gateway in found if gateway))

    def neighbours(self, name: str, gateways: set[str]) -> tuple[Neighbour, ...]:
        """What is known of those gateways."""
        index = self.index(name)
        wanted = {str(ipaddress.ip_address(gateway)) for gateway in gateways}
        if not index or not wanted:
            return ()
        return tuple(
            Neighbour(answer.get("dst"), _NUD.get(answer["state"], "none"), answer.get("lladdr") or "")
            for answer in dump(lambda: self._socket.get_neighbours(ifindex=index))
            if answer["ifindex"] == index and answer.get("dst") in wanted
        )

    def _queue(self, index: int) -> Queue | None:
        for answer in dump(lambda: self._socket.get_qdiscs(index=index)):
            if answer["index"] == index and answer["parent"] == _ROOT:
                stats = answer.get("TCA_STATS") or {}
                return Queue(
                    answer.get("TCA_KIND"),
                    dropped=stats.get("drop", 0),
                    overlimits=stats.get("overlimits", 0),
                    backlog_bytes=stats.get("backlog", 0),
                )
        return None

    def _answer(self, name: str) -> Any:
        if name not in self._answers:
            self._answers[name] = _get(self._socket, ifname=name)
        return self._answers[name]

    def _name(self, index: int | None) -> str:
        answer = _get(self._socket, index=index) if index else None
        return answer.get("ifname") if answer is not None else ""


def _get(socket: IPRoute, **which: Any) -> Any:
    try:
        return socket.link("get", **which)[0]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def _port_vlans(answer: Any) -> list[str]:
    texts = []
    for entry in answer.get_attrs("BRIDGE_VLANDB_ENTRY"):
        info = entry.get_attr("BRIDGE_VLANDB_ENTRY_INFO")
        last = entry.get_attr("BRIDGE_VLANDB_ENTRY_RANGE")
        numbers = f"{info['vid']}-{last}" if last else str(info["vid"])
        texts.append(f"{numbers} untagged" if info["flags"] & 0x4 else numbers)
    return texts
