"""The calls about images, datastores, networks, hosts, clusters, zones and the system."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from onedock.doctor.sensitive import SENSITIVE
from onedock.lab.opennebula import documents, hosts, templates
from onedock.lab.opennebula.api_vms import existing, parsed
from onedock.lab.opennebula.documents import element, elements, ids
from onedock.lab.opennebula.images import ImageError, Images
from onedock.lab.opennebula.monitord import Monitord
from onedock.lab.opennebula.networks import NetworkTemplateError, new_network
from onedock.lab.opennebula.objects import Datastore, Host, Image, VirtualNetwork
from onedock.lab.opennebula.states import HostState, ImageState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.xmlrpc import ACTION, ALLOCATE, INTERNAL, ApiError, Method

Item = TypeVar("Item")
VERSION = "7.4.0"


def configuration() -> str:
    """``one.system.config``, as of an OpenNebula whose admin has followed docs/networking.md."""
    restricted = [element("VM_RESTRICTED_ATTR", name) for name in sorted(SENSITIVE)]
    return f"<OPENNEBULA_CONFIGURATION>{''.join(restricted)}</OPENNEBULA_CONFIGURATION>"


class PoolApi:
    """Calls about everything that is no VM.

    Args:
        store: The pools.
        images: The image manager.
        monitord: Starts and stops monitoring of hosts.
    """

    def __init__(self, store: Store, images: Images, monitord: Monitord) -> None:
        self._store = store
        self._images = images
        self._monitord = monitord

    def methods(self) -> dict[str, Method]:
        """Method name → function."""
        return {
            "one.datastore.allocate": self.datastore_allocate,
            "one.datastore.info": lambda number, _decrypt=False: documents.datastore(self._datastore(number)),
            "one.datastore.delete": self.datastore_delete,
            "one.datastorepool.info": self.datastore_pool,
            "one.image.allocate": self.image_allocate,
            "one.image.info": lambda number, _decrypt=False: documents.image(self._image(number)),
            "one.image.clone": self.image_clone,
            "one.image.delete": self.image_delete,
            "one.image.enable": self.image_enable,
            "one.imagepool.info": self.image_pool,
            "one.vn.allocate": self.network_allocate,
            "one.vn.info": lambda number, _decrypt=False: documents.network(self._network(number), extended=True),
            "one.vn.delete": self.network_delete,
            "one.vnpool.info": self.network_pool,
            "one.host.allocate": self.host_allocate,
            "one.host.info": self.host_info,
            "one.host.status": self.host_status,
            "one.host.delete": self.host_delete,
            "one.host.monitoring": lambda number: _data([self._host(number)]),
            "one.hostpool.info": self.host_pool,
            "one.hostpool.monitoring": lambda _seconds=-1: _data(sorted_by_id(self._store.hosts.objects.values())),
            "one.clusterpool.info": self.cluster_pool,
            "one.zone.raftstatus": raft_status,
            "one.system.version": lambda: VERSION,
            "one.system.config": configuration,
        }

    def _datastore(self, number: int) -> Datastore:
        return existing(self._store.datastores.get(number), "datastore", number)

    def datastore_allocate(self, template: str, _cluster: int = -1) -> int:
        """``one.datastore.allocate``."""
        try:
            return self._images.allocate_datastore(parsed(template)).id
        except ImageError as error:
            raise ApiError(INTERNAL, str(error)) from error

    def datastore_delete(self, number: int) -> int:
        """``one.datastore.delete``."""
        datastore = self._datastore(number)
        if datastore.images:
            raise ApiError(ACTION, f"Datastore {number} is not empty.", number)
        self._store.delete(datastore)
        return number

    def datastore_pool(self) -> str:
        """``one.datastorepool.info``."""
        return _pool("DATASTORE_POOL", self._store.datastores.newest_first(), documents.datastore)

    def _image(self, number: int) -> Image:
        return existing(self._store.images.get(number), "image", number)

    async def image_allocate(self, template: str, datastore_id: int, skip_capacity_check: bool = False) -> int:
        """``one.image.allocate``: blocks while the driver looks for the size."""
        datastore = self._datastore(datastore_id)
        try:
            image = await self._images.allocate(parsed(template), datastore, check_capacity=not skip_capacity_check)
        except ImageError as error:
            raise ApiError(ALLOCATE, str(error)) from error
        return image.id

    def image_clone(self, number: int, name: str, _datastore: int = -1) -> int:
        """``one.image.clone``."""
        try:
            return self._images.clone(self._image(number), name).id
        except ImageError as error:
            raise ApiError(ACTION, str(error), number) from error

    def image_delete(self, number: int, _force: bool = False) -> int:
        """``one.image.delete``."""
        try:
            self._images.delete(self._image(number))
        except ImageError as error:
            raise ApiError(ACTION, str(error), number) from error
        return number

    def image_enable(self, number: int, enable: bool) -> int:
        """``one.image.enable``: READY or DISABLED."""
        image = self._image(number)
        if image.state not in (ImageState.READY, ImageState.DISABLED, ImageState.ERROR):
            raise ApiError(ACTION, f"Image cannot be changed in state {image.state.name}", number)
        image.state = image.prev_state = ImageState.READY if enable else ImageState.DISABLED
        self._store.save(image)
        return number

    def image_pool(self, _filter: int, _start: int = -1, _end: int = -1) -> str:
        """``one.imagepool.info``."""
        return _pool("IMAGE_POOL", self._store.images.newest_first(), documents.image)

    def _network(self, number: int) -> VirtualNetwork:
        return existing(self._store.networks.get(number), "virtual network", number)

    def network_allocate(self, template: str, _cluster: int = -1) -> int:
        """``one.vn.allocate``."""
        number = self._store.networks.next_id
        try:
            network = new_network(number, parsed(template))
        except (NetworkTemplateError, ValueError) as error:
            raise ApiError(INTERNAL, str(error)) from error
        self._store.new_id(self._store.networks)
        self._store.save(network)
        return number

    def network_delete(self, number: int) -> int:
        """``one.vn.delete``."""
        network = self._network(number)
        if any(range_.leases for range_ in network.ranges):
            raise ApiError(ACTION, f"Cannot delete virtual network {number}: it has leases in use.", number)
        self._store.delete(network)
        return number

    def network_pool(self, _filter: int, _start: int = -1, _end: int = -1) -> str:
        """``one.vnpool.info``."""
        return _pool("VNET_POOL", self._store.networks.newest_first(), documents.network)

    def _host(self, number: int) -> Host:
        return existing(self._store.hosts.get(number), "host", number)

    def host_allocate(self, name: str, im_mad: str, vm_mad: str, _cluster: int = -1) -> int:
        """``one.host.allocate``: monitoring starts at once."""
        if not name:
            raise ApiError(ALLOCATE, "Invalid Name, it cannot be empty")
        if any(host.name == name for host in self._store.hosts.objects.values()):
            raise ApiError(ALLOCATE, f"NAME is already taken by HOST {name}.")
        number = self._store.new_id(self._store.hosts)
        host = Host(number, name, im_mad, vm_mad, hosts.new_template(im_mad, vm_mad))
        self._store.save(host)
        self._monitord.start_monitoring(host)
        return number

    def host_info(self, number: int, _decrypt: bool = False) -> str:
        """``one.host.info``."""
        return hosts.document(self._host(number), self._store.vms.objects.values(), monitoring=True)

    def host_pool(self) -> str:
        """``one.hostpool.info``."""
        vms = self._store.vms.objects.values()
        return _pool(
            "HOST_POOL", self._store.hosts.newest_first(), lambda host: hosts.document(host, vms, monitoring=False)
        )

    def host_status(self, number: int, status: int) -> int:
        """``one.host.status``: 0 enabled, 1 disabled, 2 offline."""
        host = self._host(number)
        was_offline = host.state is HostState.OFFLINE
        wanted = {0: HostState.INIT, 1: HostState.DISABLED, 2: HostState.OFFLINE}.get(status)
        if wanted is None:
            raise ApiError(ACTION, f"Wrong status code [{status}]", number)
        host.state = wanted
        self._monitord.forget_stamps(number)
        if wanted is HostState.OFFLINE:
            hosts.forget_system(host)
            self._monitord.stop_monitoring(host)
        elif was_offline:
            self._monitord.start_monitoring(host)
        self._store.save(host)
        return number

    def host_delete(self, number: int) -> int:
        """``one.host.delete``: refused while the host has VMs."""
        host = self._host(number)
        if hosts.on_host(self._store.vms.objects.values(), number):
            raise ApiError(ACTION, f"Can not remove host {number}: it has running VMs.", number)
        self._monitord.stop_monitoring(host)
        self._store.delete(host)
        return number

    def cluster_pool(self) -> str:
        """``one.clusterpool.info``: the one cluster that holds everything."""
        template = templates.to_xml({"RESERVED_CPU": [""], "RESERVED_MEM": [""]})
        return (
            "<CLUSTER_POOL><CLUSTER>"
            + elements(ID=0, NAME="default")
            + ids("HOSTS", sorted(self._store.hosts.objects))
            + ids("DATASTORES", sorted(self._store.datastores.objects))
            + ids("VNETS", sorted(self._store.networks.objects))
            + f"<TEMPLATE>{template}</TEMPLATE></CLUSTER></CLUSTER_POOL>"
        )


def sorted_by_id(found: Iterable[Host]) -> list[Host]:
    """Hosts in the order of their ids."""
    return sorted(found, key=lambda host: host.id)


def _data(found: list[Host]) -> str:
    records = "".join(hosts.monitoring_record(host) for host in found if host.monitoring)
    return f"<MONITORING_DATA>{records}</MONITORING_DATA>"


def _pool(name: str, items: list[Item], document: Callable[[Item], str]) -> str:
    return f"<{name}>{''.join(document(item) for item in items)}</{name}>"


def raft_status() -> str:
    """``one.zone.raftstatus``: a single server, STATE 0 (solo)."""
    numbers = {
        "SERVER_ID": -1,
        "STATE": 0,
        "TERM": 0,
        "VOTEDFOR": -1,
        "COMMIT": 0,
        "LOG_INDEX": -1,
        "LOG_TERM": -1,
        "FEDLOG_INDEX": -1,
    }
    return f"<RAFT>{''.join(element(name, number) for name, number in numbers.items())}</RAFT>"
