"""How a NIC takes part in IPv6: sysctls of the VM's namespace."""

from collections.abc import Iterator, Mapping

from onedock.nodeside.agent.seen import InnerLink
from onedock.nodeside.agent.steps import SetIpv6, Step
from onedock.reconcilers.model import Nic
from onedock.reconcilers.nic_parts import Method

_SYSCTLS: Mapping[Method, Mapping[str, int]] = {
    Method.STATIC: {"disable_ipv6": 0, "accept_ra": 0, "autoconf": 0},
    # 2: also of a guest that forwards.
    Method.AUTO: {"disable_ipv6": 0, "accept_ra": 2, "autoconf": 1},
    Method.DISABLE: {"disable_ipv6": 1},
    Method.SKIP: {},
}
NEW = {"disable_ipv6": 0, "accept_ra": 0, "autoconf": 0}
"""What a NIC is born with (see ``namespaces``)."""


def plan_ipv6(nic: Nic, inner: InnerLink) -> Iterator[Step]:
    """Whether routers are listened to, and IPv6 is there at all. Nothing without IPv6 in the kernel."""
    have = dict(inner.ipv6)
    for key, value in _SYSCTLS[nic.method6].items():
        if have.get(key, value) != value:
            yield SetIpv6(nic.name, key, value)
