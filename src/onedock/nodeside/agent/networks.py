"""The networks of a node's VMs: memory, kernel and bindings, one operation at a time per VM and bridge."""

import asyncio
from dataclasses import replace
from pathlib import Path

import structlog

from onedock.nodeside.agent import namespaces, netlink
from onedock.nodeside.agent.bindings import Bindings
from onedock.nodeside.agent.describe import describe
from onedock.nodeside.agent.dhcp.clients import DhcpClients
from onedock.nodeside.agent.healing import lost, needs
from onedock.nodeside.agent.healing.healer import Healer
from onedock.nodeside.agent.healing.watch import Watch
from onedock.nodeside.agent.locks import NamedLocks
from onedock.nodeside.agent.making import Made, Maker
from onedock.nodeside.agent.neighbours import conflicts
from onedock.nodeside.agent.neighbours.announce import announce
from onedock.nodeside.agent.path import ways as path
from onedock.nodeside.agent.resolver.serving import NameServing
from onedock.nodeside.agent.seen import Seen
from onedock.nodeside.agent.shared import SharedLinks
from onedock.nodeside.agent.store import Kept, Store
from onedock.nodeside.agent.validate import check_container, check_network, check_vm
from onedock.nodeside.agent.workers import Workers
from onedock.nodeside.heals import Cause
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError
from onedock.reconcilers.model import ContainerId, Network, Nic, ObservedNetwork, VmId, namespace_name
from onedock.reconcilers.path import VmPath

log = structlog.get_logger()

_ANNOUNCEMENTS, _ANNOUNCEMENT_S = 3, 0.1
"""Number and distance, for a VM that came from another node: the first ones may be lost on the way."""


class NodeNetworks:
    """What ``ports.Networks`` promises, done on this machine."""

    def __init__(
        self,
        store: Store,
        runtime_dir: Path,
        leases_dir: Path,
        *,
        engine_root: Path = Path("/var/lib/docker"),
        lease_wait_s: float = 0.0,
        socket: Path = Path("/run/onedock/agent.sock"),
    ) -> None:
        """``runtime_dir`` is where onedock-runtime looks for the namespace of a container.

        ``leases_dir`` has the leases of NICs by DHCP; ``lease_wait_s`` is how long a new VM waits for its first ones.
        ``engine_root`` is the engine's data directory, in which it has the resolv.conf of each container; ``socket`` is
        where onedock-runtime asks for these files.
        """
        self._store = store
        self._bindings = Bindings(runtime_dir)
        self._vms = NamedLocks()
        self._bridges = NamedLocks()
        self._workers = Workers()
        self._shared = SharedLinks(store, self._workers.wanderers)
        self._lease_wait_s = lease_wait_s
        self._dhcp = DhcpClients(leases_dir, self._workers.wanderers, self._lease_changed)
        self._refreshing: set[asyncio.Task[None]] = set()
        self._names = NameServing(engine_root, runtime_dir, socket)
        self.healer = Healer(self._heal)
        self._watch = Watch(self.healer.mark)
        self._maker = Maker(store, self._watch, self.healer)

    async def restore(self) -> None:
        """Look at every remembered network, after a reboot of the node or whatever else happened while none looked.

        All bindings are written again, what is broken is put back, and what an agent was removing when it died is
        removed to the end.
        """
        containers = {one: kept.network.vm for kept in self._store if not kept.removing for one in kept.containers}
        for vm in await self._workers.in_namespaces(lost.put_names_back, containers):
            log.warning("namespace of a running container has its name again", vm=vm)
        await asyncio.gather(*(self._restore(kept) for kept in self._store))

    async def _restore(self, kept: Kept) -> None:
        vm = kept.network.vm
        if not kept.removing:
            try:
                for container in kept.containers:
                    self._bindings.write(vm, container)
            except OSError as error:
                log.error("binding cannot be written", vm=vm, error=str(error))
            await self.healer.look(vm, Cause.START)
            return
        try:
            await self.remove(vm)
        except (OnedockError, OSError) as error:
            log.error("removal cannot be finished", vm=vm, error=str(error))

    async def observe(self, vm: VmId) -> ObservedNetwork | None:
        """What the kernel shows; None when there is no namespace."""
        check_vm(vm)
        kept = self._store.get(vm)
        known = kept.network if kept else None
        seen = await self._workers.in_namespaces(netlink.observe, vm, known)
        return self._described(vm, seen)

    async def ensure(self, network: Network) -> ObservedNetwork:
        """Make it so. Raises InvalidRequestError, TerminalError or TransientError."""
        check_network(network)
        vm = network.vm
        async with self._vms.hold([str(vm)]):
            if asking := conflicts.unproven(network, await self._earlier(vm)):
                await self._prove(network, asking)
            made = await self._make(network)
        kept = self._store.get(vm)
        # Once a container is there, nobody who asks for a change waits for a server outside.
        new = kept is not None and not kept.containers
        if new and await self._dhcp.first_leases(network, self._lease_wait_s):
            made = replace(made, network=None, seen=await self._workers.in_namespaces(netlink.observe, vm, network))
        found = self._described(vm, made.seen, made.network)
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
            await self._workers.on_disk(self._store.keep_container, vm, container)
            self._bindings.write(vm, container)
            self._serve_names(vm)

    def follow_engine(self, container: ContainerId) -> None:
        """The container's name servers are right now, whatever its engine has just written."""
        check_container(container)
        self._names.follow(container)

    async def announce(self, vm: VmId) -> None:
        """Tell the VM's neighbours where its addresses are, several times. NotFoundError: it has no network here."""
        check_vm(vm)
        for number in range(_ANNOUNCEMENTS):
            await asyncio.sleep(_ANNOUNCEMENT_S if number else 0)
            async with self._vms.hold([str(vm)]):
                kept = self._store.get(vm)
                if kept is None or not namespaces.exists(namespace_name(vm)):
                    raise NotFoundError(f"VM {vm} has no network namespace on this node; make its network first")
                await self._workers.in_namespaces(announce, vm, self._dhcp.with_leases(kept.network).nics)

    async def remove(self, vm: VmId) -> None:
        """Remove bindings, links, namespace, unused bridges of ours and the memory; absent is success."""
        check_vm(vm)
        async with self._vms.hold([str(vm)]):
            await self._remove(vm)

    async def path(self, vm: VmId, *, probe: bool) -> VmPath:
        """The way of the VM's frames to the wire. NotFoundError: nothing is remembered of its network."""
        check_vm(vm)
        kept = self._store.get(vm)
        if kept is None:
            raise NotFoundError(f"VM {vm} has no network on this node")
        found = await self._workers.at_leisure(path.read, kept.network, probe=probe)
        nics = tuple(self._dhcp.on_path(vm, one) for one in found.nics)
        return replace(found, nics=nics, resolver=self._names.state(vm))

    def list_vms(self) -> tuple[VmId, ...]:
        """VMs that are remembered, in order.

        Never by the names in /run/netns: another installation's VMs are called ``one-<id>`` there as well. Nothing of
        ours is missed, because a network is remembered before the first of it is made.
        """
        return tuple(sorted(kept.network.vm for kept in self._store))

    async def close(self) -> None:
        """Let running operations end; nothing is removed."""
        await self._dhcp.close()
        await asyncio.gather(*self._refreshing)
        await self.healer.close()
        await self._workers.close()
        await asyncio.to_thread(self._maker.close)
        await self._watch.close()
        self._names.close()

    async def _remove(self, vm: VmId) -> None:
        earlier = await self._earlier(vm)
        await self._workers.on_disk(self._store.begin_removal, vm)
        self.healer.forget(vm)
        self._watch.forget(vm)
        self._names.forget(vm)
        kept = self._store.get(vm)
        self._bindings.remove(kept.containers if kept else ())
        await self._dhcp.leave(Network(vm))
        # The links go without the bridges' locks: each waits for the kernel, and many may wait together.
        await self._workers.in_namespaces(netlink.remove, vm, earlier)
        async with self._bridges.hold(needs.bridges(earlier)):
            await self._shared.release_vlans(Network(vm), earlier)
            await self._shared.leave(needs.bridges(earlier), earlier)
            if (heir := await self._workers.on_disk(self._store.hand_on, vm)) is not None:
                self.healer.mark(heir, Cause.RETRY)
        self._store.forget(vm)

    async def _prove(self, network: Network, asking: tuple[Nic, ...]) -> None:
        """Raise the NICs without those addresses and ask for them. TerminalError: taken; all is as before then."""
        vm, kept = network.vm, self._store.get(network.vm)
        await self._make(conflicts.without(network, asking))
        taken = await self._workers.in_namespaces(conflicts.ask, vm, asking)
        if not taken:
            return
        await (self._make(kept.network) if kept else self._remove(vm))
        raise TerminalError(taken[0].reason)

    async def _heal(self, vm: VmId) -> tuple[str, ...]:
        """Make the remembered network so again. Returns what had to be done, in words."""
        async with self._vms.hold([str(vm)]):
            kept = self._store.get(vm)
            if kept is None or kept.removing:
                return ()
            return (await self._make(kept.network, asked=False)).steps

    async def _make(self, network: Network, *, asked: bool = True) -> Made:
        """Make it so, for who holds the VM's lock; ``asked``: it was just sent, else it is what is remembered."""
        vm = network.vm
        earlier = await self._earlier(vm)
        async with self._bridges.hold(needs.bridges(network) | needs.bridges(earlier)):
            if known := self._store.get(vm):
                # It may have followed another one while the bridges were waited for.
                network, earlier = network if asked else known.network, known.earlier
            # Kept first: what is half made when the agent dies is known, and can be removed.
            kept = await self._workers.on_disk(self._store.keep_network, network)
            if kept is not known:
                flushed = self._workers.flush(self._store.flush, vm)
                if needs.switch_ports(network):
                    # Open vSwitch's ports outlast the node's power; so must what tells whose they are.
                    await asyncio.wrap_future(flushed)
            self._watch.depend(vm, network)
            await self._dhcp.leave(network)
            try:
                made = await self._workers.in_namespaces(self._maker.make, self._dhcp.with_leases(network), earlier)
            except TerminalError:
                if known is None and not namespaces.exists(namespace_name(vm)):
                    # Refused before anything was made: nobody would remove it.
                    self._watch.forget(vm)
                    self._store.forget(vm)
                raise
            for other, steps in made.others.items():
                self.healer.put_back(other, steps)
            if (asked or kept.superseded) and needs.ways_out(network):
                await self._lead(network, earlier)
            await self._shared.release_vlans(network, earlier)
            await self._shared.leave(needs.bridges(earlier) - needs.bridges(network), earlier)
            if kept.superseded:
                await self._workers.on_disk(self._store.made, vm)
        await self._dhcp.serve(network)
        self._serve_names(vm)
        return made

    def _serve_names(self, vm: VmId) -> None:
        if kept := self._store.get(vm):
            self._names.serve(vm, kept.containers, self._dhcp.names(kept.network))

    async def _lead(self, network: Network, earlier: Network) -> None:
        for other in await self._workers.on_disk(self._store.follow, network, earlier):
            self._watch.depend(other.vm, other)
            log.info("way out of a shared bridge is changed for this VM as well", vm=other.vm, by=network.vm)

    def _described(self, vm: VmId, seen: Seen, made: Network | None = None) -> ObservedNetwork | None:
        kept = self._store.get(vm)
        known = kept.network if kept else None
        planned = self._dhcp.with_leases(known) if known else None
        containers = kept.containers if kept else ()
        found = describe(vm, seen, known, containers, planned, settled=planned is not None and planned == made)
        return replace(found, waiting=self._dhcp.waiting(known)) if found and known else found

    def _lease_changed(self, vm: VmId) -> None:
        """The filter has to know the address before the NIC has it, so all of the network is made so again."""
        task = asyncio.get_running_loop().create_task(self._refresh(vm))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _refresh(self, vm: VmId) -> None:
        async with self._vms.hold([str(vm)]):
            kept = self._store.get(vm)
            if kept is None or kept.removing:
                return
            try:
                await self._make(kept.network, asked=False)
            except (OnedockError, OSError) as error:
                log.error("leased address cannot be set", vm=vm, error=str(error))

    async def _earlier(self, vm: VmId) -> Network:
        """What the VM had until now: from memory, or where there is none, from what the kernel shows."""
        if kept := self._store.get(vm):
            return kept.earlier
        if not namespaces.exists(namespace_name(vm)):
            return Network(vm)
        found = describe(vm, await self._workers.in_namespaces(netlink.observe, vm, None), None, ())
        return Network(vm, tuple(one.nic for one in found.nics) if found else ())
