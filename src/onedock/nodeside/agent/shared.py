"""What VMs share on a node goes with the last one that needs it. Called by who holds the bridges' locks."""

import asyncio
from concurrent.futures import Executor
from functools import partial

import structlog

from onedock.nodeside.agent import netlink
from onedock.nodeside.agent.healing import needs
from onedock.nodeside.agent.steps.words import in_words
from onedock.nodeside.agent.store import Store
from onedock.reconcilers.model import Network, VmId

log = structlog.get_logger()


class SharedLinks:
    """Bridges, and what leads from them to the wire; ``threads`` run what wanders between namespaces."""

    def __init__(self, store: Store, threads: Executor) -> None:
        self._store = store
        self._threads = threads

    async def leave(self, bridges: set[str], earlier: Network) -> None:
        """Remove those of the bridges that a VM no longer uses which nobody else uses either, with their uplinks."""
        if not bridges:
            return
        in_use = {nic.bridge for nic in earlier.nics if nic.keep_bridge}.union(
            *map(needs.bridges, self._others(earlier.vm))
        )
        left = sorted(bridges - in_use)
        if not left:
            return
        remove = partial(netlink.remove_shared, left, needs.ways_out(earlier))
        if removed := await asyncio.get_running_loop().run_in_executor(self._threads, remove):
            log.info("unused links removed", vm=earlier.vm, links=removed)

    async def release_vlans(self, network: Network, earlier: Network) -> None:
        """Let VLANs that the VM no longer wants pass no more, unless another VM wants them; then stop to filter."""
        left = {bridge for bridge, _ in needs.trunks(earlier) - needs.trunks(network)}
        if not left:
            return
        networks = [network, *self._others(network.vm)]
        trunks = {name: {trunk for one in networks for at, trunk in needs.trunks(one) if at == name} for name in left}
        ways_out = needs.ways_out(earlier).union(*map(needs.ways_out, networks))
        release = partial(netlink.release_vlans, network.vm, trunks, ways_out)
        if done := await asyncio.get_running_loop().run_in_executor(self._threads, release):
            log.info("unused VLANs released", vm=network.vm, what=tuple(map(in_words, done)))

    def _others(self, vm: VmId) -> list[Network]:
        return [kept.network for kept in self._store if kept.network.vm != vm and not kept.removing]
