"""The networks of a node's VMs: memory, kernel and bindings, one operation at a time per VM and bridge."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from onedock.nodeside.agent import namespaces, netlink
from onedock.nodeside.agent.describe import describe
from onedock.nodeside.agent.locks import NamedLocks
from onedock.nodeside.agent.store import Store, write_atomically
from onedock.nodeside.agent.validate import check_container, check_network, check_vm
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, Network, ObservedNetwork, VmId, namespace_name

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 8


class NodeNetworks:
    """What ``ports.Networks`` promises, done on this machine."""

    def __init__(self, store: Store, runtime_dir: Path) -> None:
        """``runtime_dir`` is where onedock-runtime looks for the namespace of a container."""
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store
        self._runtime_dir = runtime_dir
        self._vms = NamedLocks()
        self._bridges = NamedLocks()
        # Threads that wander between namespaces: nothing else may run in them.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="netns")

    async def restore(self) -> None:
        """After a reboot of the node: write all bindings again, and make the networks that are gone.

        What an agent was removing when it died is removed to the end.
        """
        for kept in self._store:
            vm = kept.network.vm
            try:
                if kept.removing:
                    await self.remove(vm)
                    continue
                for container in kept.containers:
                    self._write_binding(vm, container)
                if not namespaces.exists(namespace_name(vm)):
                    await self.ensure(kept.network)
                    log.info("network made again", vm=vm)
            except (OnedockError, OSError) as error:
                log.error("network cannot be made again", vm=vm, error=str(error))

    async def observe(self, vm: VmId) -> ObservedNetwork | None:
        """What the kernel shows; None when there is no namespace."""
        check_vm(vm)
        kept = self._store.get(vm)
        known = kept.network if kept else None
        seen = await self._in_thread(netlink.observe, vm, known)
        return describe(vm, seen, known, kept.containers if kept else ())

    async def ensure(self, network: Network) -> ObservedNetwork:
        """Make it so. Raises InvalidRequestError, TerminalError or TransientError."""
        check_network(network)
        vm = network.vm
        async with self._vms.hold([str(vm)]):
            earlier, known = await self._earlier(vm), self._store.get(vm)
            async with self._bridges.hold(_bridges_of(network) | _bridges_of(earlier)):
                # Kept first: what is half made when the agent dies is known, and can be removed.
                await asyncio.to_thread(self._store.keep_network, network)
                try:
                    seen = await self._in_thread(netlink.ensure, network)
                except TerminalError:
                    if known is None and not namespaces.exists(namespace_name(vm)):
                        self._store.forget(vm)  # refused before anything was made: nobody would remove it
                    raise
                await self._leave(_bridges_of(earlier) - _bridges_of(network), earlier)
            kept = self._store.get(vm)
            found = describe(vm, seen, network, kept.containers if kept else ())
        if found is None:
            raise TransientError(f"namespace of VM {vm} vanished while it was made; try again")
        return found

    async def bind(self, vm: VmId, container: ContainerId) -> None:
        """Let the container start in the VM's namespace. NotFoundError: there is none."""
        check_vm(vm)
        check_container(container)
        async with self._vms.hold([str(vm)]):
            if not namespaces.exists(namespace_name(vm)):
                raise NotFoundError(f"VM {vm} has no network namespace on this node; make its network first")
            await asyncio.to_thread(self._store.keep_container, vm, container)
            self._write_binding(vm, container)

    async def remove(self, vm: VmId) -> None:
        """Remove bindings, links, namespace, unused bridges of ours and the memory; absent is success."""
        check_vm(vm)
        async with self._vms.hold([str(vm)]):
            earlier = await self._earlier(vm)
            await asyncio.to_thread(self._store.begin_removal, vm)
            kept = self._store.get(vm)
            for container in kept.containers if kept else ():
                (self._runtime_dir / container).unlink(missing_ok=True)
            # The links go without the bridges' locks: each waits for the kernel, and many may wait together.
            await self._in_thread(netlink.remove, vm)
            async with self._bridges.hold(_bridges_of(earlier)):
                await self._leave(_bridges_of(earlier), earlier)
            self._store.forget(vm)

    def list_vms(self) -> tuple[VmId, ...]:
        """VMs that are remembered, in order.

        Never by the names in /run/netns: another installation's VMs are called ``one-<id>`` there as well. Nothing of
        ours is missed, because a network is remembered before the first of it is made.
        """
        return tuple(sorted(kept.network.vm for kept in self._store))

    async def close(self) -> None:
        """Let running operations end; nothing is removed."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _earlier(self, vm: VmId) -> Network:
        """What the VM had until now: from memory, or where there is none, from what the kernel shows."""
        if kept := self._store.get(vm):
            return kept.network
        if not namespaces.exists(namespace_name(vm)):
            return Network(vm)
        found = describe(vm, await self._in_thread(netlink.observe, vm, None), None, ())
        return Network(vm, tuple(one.nic for one in found.nics) if found else ())

    async def _leave(self, bridges: set[str], earlier: Network) -> None:
        """Remove those of the bridges that a VM no longer uses which nobody else uses either."""
        phydevs = frozenset(nic.phydev for nic in earlier.nics if nic.phydev)
        if bridges and (removed := await self._in_thread(netlink.remove_bridges, sorted(bridges), phydevs)):
            log.info("unused bridges removed", vm=earlier.vm, bridges=removed)

    def _write_binding(self, vm: VmId, container: ContainerId) -> None:
        path = namespaces.path(namespace_name(vm))
        write_atomically(self._runtime_dir / container, os.fsencode(path))

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _bridges_of(network: Network) -> set[str]:
    return {nic.bridge for nic in network.nics if nic.bridge}
