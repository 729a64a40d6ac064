"""The scheduler: a pending VM goes to the first monitored host with room for it."""

import asyncio

from onedock.lab.opennebula import hosts
from onedock.lab.opennebula.images import SYSTEM_DATASTORE
from onedock.lab.opennebula.objects import Datastore, Host, Vm
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.states import HostState, VmState

PERIOD_SECONDS = 1.0


def choose_host(vm: Vm, candidates: list[Host], vms: list[Vm]) -> Host | None:
    """The MONITORED host with the lowest id whose free capacity holds the VM."""
    cpu, memory = hosts.usage([vm])
    for host in sorted(candidates, key=lambda host: host.id):
        if host.state is not HostState.MONITORED:
            continue
        total_cpu, total_memory = hosts.capacity(host)
        used_cpu, used_memory = hosts.usage(hosts.on_host(vms, host.id))
        if used_cpu + cpu <= total_cpu and used_memory + memory <= total_memory:
            return host
    return None


class Scheduler:
    """Places pending VMs, every second and whenever one arrives.

    Args:
        oned: Deploys.
        tm_mad: Transfer driver that a system datastore must have: the only one this OpenNebula has scripts for.
    """

    def __init__(self, oned: Oned, tm_mad: str) -> None:
        self._oned = oned
        self._tm_mad = tm_mad
        self._arrived = asyncio.Event()

    def wake(self) -> None:
        """A VM became pending."""
        self._arrived.set()

    async def run(self) -> None:
        """Places VMs until cancelled."""
        while True:
            self.place_all()
            self._arrived.clear()
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    def place_all(self) -> None:
        """Places every pending VM that fits somewhere; the others are told why not in SCHED_MESSAGE."""
        store = self._oned.store
        for vm in sorted(store.vms.objects.values(), key=lambda vm: vm.id):
            if vm.state is not VmState.PENDING:
                continue
            host = choose_host(vm, list(store.hosts.objects.values()), list(store.vms.objects.values()))
            datastore = self._system_datastore()
            if host is None or datastore is None:
                what = "host with enough capacity" if host is None else f"system datastore with TM_MAD={self._tm_mad}"
                message = [f"Cannot dispatch VM: there is no monitored {what}"]
                if vm.user_template.get("SCHED_MESSAGE") != message:
                    vm.user_template["SCHED_MESSAGE"] = list(message)
                    store.save(vm)
                continue
            vm.user_template.pop("SCHED_MESSAGE", None)
            self._oned.deploy(vm, host, datastore)

    def _system_datastore(self) -> Datastore | None:
        found = [
            datastore
            for datastore in self._oned.store.datastores.objects.values()
            if datastore.type == SYSTEM_DATASTORE and datastore.tm_mad == self._tm_mad
        ]
        return min(found, key=lambda datastore: datastore.id, default=None)
