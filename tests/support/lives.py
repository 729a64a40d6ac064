"""Lives of VMs on one agent, in this process and its network namespace; a line of JSON after each round.

python -m tests.support.lives <directory> <first VM> <VMs of a round> <rounds>
"""

import asyncio
import functools
import gc
import json
import os
import socket
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.support.plumbing import nic
from tests.support.waiting import eventually

from onedock.nodeside.agent.networks import NodeNetworks
from onedock.nodeside.agent.store import Store
from onedock.reconcilers.model import Network, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Spoofing

_AT_REST = 20
"""Descriptors, of which a VM would have several."""


def _network(vm: VmId, *, moved: bool) -> Network:
    nics = tuple(nic(vm, index, spoofing=Spoofing(mac=True), rules=()) for index in range(2))
    if not moved:
        return Network(vm, nics)
    return Network(vm, tuple(replace(one, bridge=f"{one.bridge}m", inbound=Bandwidth(1_000_000)) for one in nics))


def _ours() -> dict[str, int]:
    """How many objects there are of each class of the product; what is cached has bounds of its own."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper) and one.cache_info().maxsize is not None:
            one.cache_clear()
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    return dict(Counter(name for name in names if name.startswith("onedock.")))


def _measured() -> dict[str, object]:
    return {
        "ours": _ours(),
        # Sockets that are closed are let go of a second later; those that are open are descriptors.
        "objects": sum(not isinstance(one, socket.socket) for one in gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "tasks": len(asyncio.all_tasks()),
        "rss_mib": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
    }


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _is_at_rest() -> bool:
    """Whether no look is due for what was said of the last VMs, and their sockets are closed: that takes its time."""
    return _descriptors() < _AT_REST and not any(name.endswith("._Mark") for name in _ours())


async def live(directory: Path, rounds: list[list[VmId]]) -> None:
    """The VMs of a round are made, changed and removed, all at once."""
    networks = NodeNetworks(Store(directory / "vms"), directory / "runtime", directory / "dhcp")
    for vms in rounds:
        for moved in (False, True):
            await asyncio.gather(*(networks.ensure(_network(vm, moved=moved)) for vm in vms))
        await asyncio.gather(*(networks.remove(vm) for vm in vms))
        await eventually(_is_at_rest, within=20, what="nothing is in hand")
        print(json.dumps(_measured()), flush=True)
    await networks.close()


if __name__ == "__main__":
    first, count, number = map(int, sys.argv[2:5])
    starts = range(first, first + number * count, count)
    asyncio.run(live(Path(sys.argv[1]), [[VmId(start + vm) for vm in range(count)] for start in starts]))
