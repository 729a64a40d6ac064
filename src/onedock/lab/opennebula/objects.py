"""The documents of the pools: what the store keeps and the other modules change."""

from dataclasses import dataclass, field
from typing import Literal

from onedock.lab.opennebula.states import HostState, ImageState, ImageType, LcmState, VmState
from onedock.lab.opennebula.templates import Template, Vector


@dataclass(slots=True)
class History:
    """One history record of a VM: a stay on a host, cut at every hot operation; epoch seconds, 0 = not yet."""

    seq: int
    hostname: str
    hid: int
    ds_id: int
    vm_mad: str
    tm_mad: str
    stime: int = 0
    etime: int = 0
    pstime: int = 0
    petime: int = 0
    rstime: int = 0
    retime: int = 0
    estime: int = 0
    eetime: int = 0
    action: int = 0
    uid: int = -1
    gid: int = -1
    request_id: int = -1


@dataclass(slots=True)
class DiskSnapshots:
    """The snapshot tree of one disk."""

    disk_id: int
    allow_orphans: str = "YES"
    current_base: int = -1
    next_snapshot: int = 0
    snapshots: list[Vector] = field(default_factory=list)


@dataclass(slots=True)
class Vm:
    """A virtual machine."""

    id: int
    name: str
    template: Template
    user_template: Template
    stime: int
    state: VmState = VmState.PENDING
    lcm_state: LcmState = LcmState.LCM_INIT
    prev_state: VmState = VmState.PENDING
    prev_lcm_state: LcmState = LcmState.LCM_INIT
    resched: int = 0
    etime: int = 0
    deploy_id: str = ""
    last_poll: int = 0
    monitoring: Vector = field(default_factory=dict)
    history: list[History] = field(default_factory=list)
    snapshots: list[DiskSnapshots] = field(default_factory=list)
    saveas: Vector = field(default_factory=dict)
    """Disk-saveas under way: IMAGE_ID, DISK_ID."""

    @property
    def record(self) -> History:
        """The current history record; a VM that was never deployed has none."""
        return self.history[-1]


@dataclass(slots=True)
class Host:
    """A host. ``monitoring`` is the last MONITOR_HOST, ``last_seen`` the epoch second of the last sign of life."""

    id: int
    name: str
    im_mad: str
    vm_mad: str
    template: Template
    state: HostState = HostState.INIT
    monitoring: Vector = field(default_factory=dict)
    monitored_at: int = 0
    system_seen: bool = False


@dataclass(slots=True)
class Image:
    """An image; sizes in MB."""

    id: int
    name: str
    type: ImageType
    persistent: bool
    datastore_id: int
    datastore: str
    template: Template
    regtime: int
    modtime: int
    source: str = ""
    path: str = ""
    format: str = ""
    fs: str = ""
    size: int = 0
    state: ImageState = ImageState.LOCKED
    prev_state: ImageState = ImageState.INIT
    cloning_id: int = -1
    vms: list[int] = field(default_factory=list)
    came_back: bool = False
    """A persistent image that a VM has given back; it has taken over the disk's (empty) snapshot tree."""


@dataclass(slots=True)
class Datastore:
    """A datastore; ``type`` is 0 image, 1 system, 2 file; sizes in MB."""

    id: int
    name: str
    type: int
    ds_mad: str
    tm_mad: str
    base_path: str
    template: Template
    total_mb: int = 0
    free_mb: int = 0
    used_mb: int = 0
    images: list[int] = field(default_factory=list)


@dataclass(slots=True)
class AddressRange:
    """An address range: its attributes and its leases, index → VM id."""

    attributes: Vector
    next_index: int = 0
    leases: dict[int, int] = field(default_factory=dict)
    ever_leased: bool = False


@dataclass(slots=True)
class Progress:
    """Which VMs have what a security group or network says now: the four lists of VM ids that OpenNebula shows."""

    updated: list[int] = field(default_factory=list)
    outdated: list[int] = field(default_factory=list)
    updating: list[int] = field(default_factory=list)
    error: list[int] = field(default_factory=list)

    def knows(self, vm_id: int) -> bool:
        """Whether the VM is on any list."""
        return any(vm_id in numbers for numbers in self.lists().values())

    def put(self, vm_id: int, name: Literal["updated", "outdated", "updating", "error"]) -> None:
        """Move the VM to that list."""
        self.remove(vm_id)
        self.lists()[name].append(vm_id)

    def remove(self, vm_id: int) -> None:
        """Take the VM off all lists."""
        for numbers in self.lists().values():
            if vm_id in numbers:
                numbers.remove(vm_id)

    def commit(self, *, recover: bool) -> None:
        """All VMs are outdated; with ``recover`` only those that failed or never answered."""
        for numbers in (self.updating, self.error, *([] if recover else [self.updated])):
            self.outdated += numbers
            numbers.clear()

    def lists(self) -> dict[str, list[int]]:
        """The lists by name, in the order in which they are shown."""
        return {"updated": self.updated, "outdated": self.outdated, "updating": self.updating, "error": self.error}


@dataclass(slots=True)
class VirtualNetwork:
    """A virtual network."""

    id: int
    name: str
    template: Template
    vlan_id: str = ""
    vlan_automatic: bool = False
    ranges: list[AddressRange] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    changes: Vector = field(default_factory=dict)
    """VNET_UPDATE: attributes on their way to VMs, with their old values."""


@dataclass(slots=True)
class SecurityGroup:
    """A security group; its rules are the RULE vectors of the template."""

    id: int
    name: str
    template: Template
    progress: Progress = field(default_factory=Progress)


@dataclass(slots=True)
class VmTemplate:
    """A VM template."""

    id: int
    name: str
    template: Template
    regtime: int
