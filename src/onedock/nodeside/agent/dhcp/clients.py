"""DHCP for NICs of VMs: one client each, run by the agent in the VM's namespace; the image needs none.

The clients end with the agent, and keep their leases: the next agent asks for the same addresses again, which the
kernel has kept meanwhile. A lease is only given back when its NIC goes. All changes of a VM's leases take one way:
they make the VM due, and the next ``serve`` gives each NIC what its lease says.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent.dhcp import client as dhcp_client
from onedock.nodeside.agent.dhcp import kernel
from onedock.nodeside.agent.dhcp.client import ClientRun
from onedock.nodeside.agent.dhcp.kernel import Link
from onedock.nodeside.agent.dhcp.lease import BadLeaseError, Lease, parse_lease
from onedock.nodeside.agent.dhcp.store import Kept, Key, LeaseStore
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Leased, Method, Route
from onedock.reconcilers.path import NicPath
from onedock.reconcilers.resolver import Names, merge

log = structlog.get_logger()

_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LAST_WORDS_S = 1.0
_NO_PROGRAM = "the node has no DHCP client; install udhcpc or busybox there"
_UNANSWERED = "no DHCP server has answered yet"


@dataclass(slots=True)
class _Client:
    nic: Nic
    link: Link
    lease: Lease | None
    trouble: str = ""
    run: ClientRun | None = None
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    served: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the NIC has what the lease says."""


class DhcpClients:
    """All clients of a node.

    Args:
        directory: where leases are kept over the agent's end.
        threads: run what wanders between namespaces.
        make_due: told of a VM whose leases have changed: it has to be served again.
    """

    def __init__(self, directory: Path, threads: Executor, make_due: Callable[[VmId], None]) -> None:
        self._store = LeaseStore(directory)
        self._threads = threads
        self._make_due = make_due
        self._clients: dict[Key, _Client] = {}
        self._closed = False
        self._script = directory / "event"
        self._script.write_text(dhcp_client.SCRIPT)
        self._script.chmod(0o700)
        for key in self._store:
            _end_stray(self._store.get(key))

    def with_leases(self, network: Network) -> Network:
        """The network as it has to be with its leases: those addresses pass the filters, and are routed by source."""
        return replace(network, nics=tuple(_with_lease(nic, self._lease(network.vm, nic)) for nic in network.nics))

    def names(self, network: Network) -> Names | None:
        """Name servers and search domains of the VM, those of its leases after all others; None: not asked for."""
        if network.dns is None:
            return None
        leases = (self._lease(network.vm, nic) for nic in sorted(network.nics, key=lambda nic: nic.index))
        return merge(network, [Names(lease.dns, lease.search) for lease in leases if lease is not None])

    async def leave(self, network: Network) -> None:
        """Give back the leases of NICs that are not to have one any more. To be called while their links exist."""
        wanted = {nic.index for nic in _by_dhcp(network)}
        known = {*self._store, *self._clients}
        gone = [key for key in known if key[0] == network.vm and key[1] not in wanted]
        await asyncio.gather(*(self._forget(key) for key in gone))

    async def serve(self, network: Network) -> None:
        """Give each NIC what its lease says, and see that its client runs. Its link must exist."""
        if self._closed:
            return
        for nic in _by_dhcp(network):
            key = (network.vm, nic.index)
            lease = self._lease(network.vm, nic)
            link = await self._settle(network.vm, nic, lease)
            if link is None:
                continue
            client = self._clients.get(key)
            if client is not None and client.link != link:
                await self._end(key, client, release=False)
                client = None
            if client is None:
                client = self._clients[key] = _Client(nic, link, lease)
                client.task = asyncio.get_running_loop().create_task(
                    self._keep_running(key, client), name=f"dhcp-{network.vm}-{nic.index}"
                )
            client.nic = nic
            if lease is not None and client.lease == lease:
                client.served.set()

    async def first_leases(self, network: Network, within_s: float) -> bool:
        """Wait until all its NICs have their leases, for at most ``within_s`` seconds; returns whether any had none."""
        clients = [self._clients.get((network.vm, nic.index)) for nic in _by_dhcp(network)]
        waiting = [client for client in clients if client is not None and not client.served.is_set()]
        if not waiting:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for client in waiting:
                    await client.served.wait()
        return True

    def waiting(self, network: Network) -> tuple[str, ...]:
        """A line for each NIC that has no lease."""
        return tuple(
            f"waiting for a DHCP lease on {nic.name}: {self._trouble((network.vm, nic.index))}"
            for nic in _by_dhcp(network)
            if self._lease(network.vm, nic) is None
        )

    def on_path(self, vm: VmId, path: NicPath) -> NicPath:
        """The NIC's way with its lease, or what it waits for."""
        lease = self._lease(vm, path.nic)
        if lease is not None:
            left = lease.remaining(time.time())
            leased = f"{lease.address} from {lease.server or 'a server'} for {left} s"
            return replace(path, leased=leased, dns=tuple(dict.fromkeys((*path.nic.dns, *lease.dns))))
        return replace(path, waiting="; ".join(self.waiting(Network(vm, (path.nic,)))), dns=path.nic.dns)

    async def close(self) -> None:
        """End all clients, keeping their leases; none is begun any more."""
        self._closed = True
        await asyncio.gather(*(self._end(key, client, release=False) for key, client in tuple(self._clients.items())))

    def _lease(self, vm: VmId, nic: Nic) -> Lease | None:
        if nic.method is not Method.DHCP:
            return None
        key = (vm, nic.index)
        client = self._clients.get(key)
        lease = client.lease if client is not None else self._store.get(key).lease
        return lease if lease is not None and lease.remaining(time.time()) else None

    def _trouble(self, key: Key) -> str:
        client = self._clients.get(key)
        return (client.trouble if client is not None else "") or _UNANSWERED

    async def _keep_running(self, key: Key, client: _Client) -> None:
        pause = _PAUSE_S
        while True:
            try:
                served = await self._run_once(key, client)
            except OSError as error:
                served, client.trouble = False, f"the DHCP client cannot be started: {error.strerror}"
            if client.stopping:
                return
            client.run = None
            log.warning("dhcp client ended", vm=key[0], nic=client.nic.name, reason=client.trouble)
            pause = _PAUSE_S if served else min(2 * pause, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)

    async def _run_once(self, key: Key, client: _Client) -> bool:
        """Run the client until it ends; returns whether it had a lease."""
        if not dhcp_client.find_program():
            client.trouble = _NO_PROGRAM
            return False
        wish = client.lease.ip if client.lease is not None else ""
        client.run = ClientRun.start(key[0], client.nic.name, self._script, wish=wish)
        await self._keep(key, client)
        leased = begun = False
        async for event in client.run.events():
            # Its first word is always that it has nothing yet: a lease of the run before is still good.
            if begun:
                await self._take(key, client, event)
                leased = leased or client.lease is not None
            begun = True
        if not client.run.stopped:
            client.trouble = client.run.last_words
        return leased

    async def _take(self, key: Key, client: _Client, event: dict[str, str]) -> None:
        """Take over what a client tells; a lease that has changed makes the VM due."""
        if client.stopping:
            return
        vm, before = key[0], client.lease
        match event.get("event"):
            case "bound" | "renew":
                try:
                    client.lease, client.trouble = parse_lease(event, time.time(), before), ""
                except BadLeaseError as error:
                    client.lease, client.trouble = None, f"the DHCP server offers what cannot be used: {error}"
                    if client.run is not None and event["event"] == "renew":
                        client.run.stop()  # it would keep that; its next run asks everybody
            case "deconfig":
                client.lease, client.trouble = None, client.trouble or "the lease has ended"
            case "nak":
                client.trouble = f"the DHCP server refuses: {event.get('message', '')[:100]}"
            case "leasefail":
                client.trouble = _UNANSWERED
        if client.lease == before:
            return
        client.served.clear()
        await self._keep(key, client)
        if client.lease is None or before is None or before.address != client.lease.address:
            facts = {"server": client.lease.server, "dns": client.lease.dns} if client.lease else {}
            address = client.lease.address if client.lease else None
            log.info("dhcp lease", vm=vm, nic=client.nic.name, address=address, reason=client.trouble, **facts)
        self._make_due(vm)

    async def _forget(self, key: Key) -> None:
        if client := self._clients.get(key):
            await self._end(key, client, release=True)
            await self._settle(key[0], client.nic, None)
        self._store.forget(key)

    async def _settle(self, vm: VmId, nic: Nic, lease: Lease | None) -> Link | None:
        """See ``kernel.settle``; a link that went meanwhile is as one that is not there."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, kernel.settle, vm, nic, lease)
        except (NetlinkError, OSError) as error:
            log.warning("lease cannot be set", vm=vm, nic=nic.name, error=str(error))
            return None

    async def _end(self, key: Key, client: _Client, *, release: bool) -> None:
        client.stopping = True
        assert client.task is not None
        if client.run is not None:
            await client.run.end(release=release and client.lease is not None)
            # What it said last may be on its way to the disk.
            await asyncio.wait({client.task}, timeout=_LAST_WORDS_S)
        client.task.cancel()
        await asyncio.wait({client.task})
        self._clients.pop(key, None)
        if not release:
            await self._remember(key, Kept(client.lease))

    async def _keep(self, key: Key, client: _Client) -> None:
        pid = client.run.pid if client.run is not None else 0
        await self._remember(key, Kept(client.lease, pid, _start_ticks(pid)))

    async def _remember(self, key: Key, kept: Kept) -> None:
        try:
            await asyncio.to_thread(self._store.keep, key, kept)
        except OSError as error:
            # The lease is good without: only an agent that starts anew would not know it.
            log.error("lease cannot be kept", vm=key[0], nic=key[1], error=str(error))


def _with_lease(nic: Nic, lease: Lease | None) -> Nic:
    if lease is None:
        return nic
    allowed = tuple(dict.fromkeys((*nic.spoofing.addresses, lease.ip)))
    routes = tuple(Route(*route) for route in lease.routes)
    return replace(nic, spoofing=replace(nic.spoofing, addresses=allowed), leased=Leased(lease.address, routes))


def _by_dhcp(network: Network) -> Iterable[Nic]:
    return (nic for nic in network.nics if nic.method is Method.DHCP)


def _start_ticks(pid: int) -> int:
    """When a process was started; 0 when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def _end_stray(kept: Kept) -> None:
    """End a client that has outlived its agent: nobody hears what it says."""
    if kept.pid and kept.started and _start_ticks(kept.pid) == kept.started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kept.pid, signal.SIGTERM)
