"""The netlink messages of a VM's network, each as one call: in pyroute2's words, and as the agent's bytes."""

from contextlib import suppress
from typing import Any, Protocol, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.reading.inside import read_inside
from onedock.nodeside.agent.rtnetlink import messages
from onedock.nodeside.agent.rtnetlink.socket import CREATE, EXCLUSIVE, Rtnetlink
from onedock.reconcilers.model import Nic

_IFA_F_NODAD = 0x02
_RTPROT_STATIC = 4


class Calls(Protocol):
    """A socket in the namespace in which the calling thread stands; a context."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def index(self, name: str) -> int:
        """Of a link."""
        ...

    def veth(self, nic: Nic, group: int, bridge: int, namespace: int) -> None:
        """Both ends: ours up in the bridge, with its group, the other one in the namespace of the descriptor."""
        ...

    def label(self, name: str, alias: str) -> None:
        """Of a link."""
        ...

    def up(self, name: str) -> None:
        """A link."""
        ...

    def add_address(self, index: int, cidr: str) -> None:
        """Without asking whether somebody has it."""
        ...

    def remove_address(self, index: int, cidr: str) -> None:
        """Of a link."""
        ...

    def add_gateway(self, index: int, gateway: str, metric: int) -> None:
        """A default route."""
        ...

    def delete_group(self, group: int) -> None:
        """All links that have it."""
        ...

    def look_for(self, name: str) -> None:
        """Read a link, if it is there."""
        ...

    def look_around(self) -> None:
        """Read all links, addresses, routes and rules."""
        ...


class Pyroute2:
    """As one says it in Python."""

    def __init__(self) -> None:
        self._socket = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def index(self, name: str) -> int:
        return int(self._socket.link("get", ifname=name)[0]["index"])

    def veth(self, nic: Nic, group: int, bridge: int, namespace: int) -> None:
        ours = {"ifname": nic.host_name, "address": "fe" + nic.mac[2:], "group": group, "master": bridge}
        peer = {"ifname": nic.name, "address": nic.mac, "net_ns_fd": namespace}
        self._socket.link("add", kind="veth", state="up", peer=peer, **ours)

    def label(self, name: str, alias: str) -> None:
        self._socket.link("set", ifname=name, ifalias=alias)

    def up(self, name: str) -> None:
        self._socket.link("set", ifname=name, state="up")

    def add_address(self, index: int, cidr: str) -> None:
        flags: dict[str, Any] = {"flags": _IFA_F_NODAD} if ":" in cidr else {}
        self._address("add", index, cidr, **flags)

    def remove_address(self, index: int, cidr: str) -> None:
        self._address("del", index, cidr)

    def add_gateway(self, index: int, gateway: str, metric: int) -> None:
        what = {"oif": index, "gateway": gateway, "priority": metric, "proto": _RTPROT_STATIC}
        self._socket.route("add", family=10 if ":" in gateway else 2, dst="default", **what)

    def delete_group(self, group: int) -> None:
        self._socket.link("del", group=group)

    def look_for(self, name: str) -> None:
        with suppress(NetlinkError):
            self._socket.link("get", ifname=name)

    def look_around(self) -> None:
        for dump in (self._socket.get_links, self._socket.get_addr, self._socket.get_routes, self._socket.get_rules):
            for _ in dump():
                pass

    def _address(self, command: str, index: int, cidr: str, **flags: Any) -> None:
        address, _, prefix = cidr.partition("/")
        self._socket.addr(command, index=index, address=address, prefixlen=int(prefix), **flags)


class Bytes(Rtnetlink):
    """As the agent says it."""

    def index(self, name: str) -> int:
        found = self.link(name=name)
        assert found is not None
        return found.index

    def veth(self, nic: Nic, group: int, bridge: int, namespace: int) -> None:
        outer = messages.link(nic.host_name, up=True, mac="fe" + nic.mac[2:], master=bridge, group=group)
        inner = messages.link(nic.name, mac=nic.mac)
        self.do(messages.NEW_LINK, CREATE | EXCLUSIVE, messages.veth(outer, inner, namespace))

    def label(self, name: str, alias: str) -> None:
        self.do(messages.NEW_LINK, 0, messages.link(name, alias=alias))

    def up(self, name: str) -> None:
        self.do(messages.NEW_LINK, 0, messages.link(name, up=True))

    def add_address(self, index: int, cidr: str) -> None:
        self.do(messages.NEW_ADDRESS, CREATE | EXCLUSIVE, messages.address(cidr, index))

    def remove_address(self, index: int, cidr: str) -> None:
        self.do(messages.DELETE_ADDRESS, 0, messages.address(cidr, index))

    def add_gateway(self, index: int, gateway: str, metric: int) -> None:
        anywhere = "::/0" if ":" in gateway else "0.0.0.0/0"
        route = messages.Route(anywhere, index, _RTPROT_STATIC, gateway=gateway, metric=metric)
        self.do(messages.NEW_ROUTE, CREATE | EXCLUSIVE, messages.route(route))

    def delete_group(self, group: int) -> None:
        self.do(messages.DELETE_LINK, 0, messages.link(group=group))

    def look_for(self, name: str) -> None:
        self.link(name=name)

    def look_around(self) -> None:
        read_inside(self)
