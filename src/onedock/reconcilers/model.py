"""Frozen domain model: what OpenNebula wants of a VM, and what a node shows of it.

Everything here is a value. XML becomes these values in ``controller``, the engine's and the agent's JSON become
them in ``nodeside``; plans compare them. Units: bytes, microseconds and CIDR strings, as named.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import NewType

from onedock.reconcilers.nic_parts import (
    Bandwidth,
    Leased,
    Method,
    OvsPort,
    Route,
    SecurityRule,
    Spoofing,
    Switch,
    TrunkPort,
    Uplink,
)

VmId = NewType("VmId", int)
NodeName = NewType("NodeName", str)
ContainerId = NewType("ContainerId", str)

LABEL_VM = "org.onedock.vm"
LABEL_INSTANCE = "org.onedock.instance"
LABEL_SPEC = "org.onedock.spec"


def container_name(vm: VmId) -> str:
    """The name of a VM's container, which is its deploy id in OpenNebula too."""
    return f"one-{vm}"


def namespace_name(vm: VmId) -> str:
    """The name of a VM's network namespace, as ``ip netns`` shows it."""
    return f"one-{vm}"


class Power(StrEnum):
    """What OpenNebula wants a VM to be on its node."""

    RUNNING = "running"
    """The container runs."""
    SUSPENDED = "suspended"
    """The container is frozen, by somebody's hand: nothing is changed until it is resumed or stopped."""
    STOPPED = "stopped"
    """The container is kept, stopped: POWEROFF. Its network is unplugged, its addresses must not answer."""
    ABSENT = "absent"
    """Nothing of the VM is left on the node."""


@dataclass(frozen=True, slots=True)
class Nic:
    """One network interface of a VM, as its lease and context say."""

    index: int
    """NIC_ID of OpenNebula."""
    name: str
    """Name inside the container: ``eth<NIC_ID>``, which is the template's order, and stays over hot changes."""
    host_name: str
    """Name of the host side of the veth: NIC/TARGET, ``one-<vm>-<nic>``."""
    mac: str
    bridge: str
    addresses: tuple[str, ...] = ()
    """CIDR strings, IPv4 or IPv6, aliases included, the NIC's own first."""
    gateways: tuple[str, ...] = ()
    """Default gateways, at most one per family."""
    mtu: int | None = None
    """Of the VM's side, the host's side and whatever is made for it."""
    phydev: str | None = None
    """A physical device that belongs in the bridge itself (PHYDEV of ``bridge``, ``fw`` and ``ovswitch``)."""
    switch: Switch = Switch.LINUX
    uplink: Uplink | None = None
    """A VLAN or VXLAN link that belongs in the bridge; made with the first NIC, removed with the last one."""
    bridge_options: tuple[tuple[str, str], ...] = ()
    """BRIDGE_CONF: options of ``bridge`` links, set when the bridge is made by us."""
    keep_bridge: bool = False
    """An empty bridge made by us stays, with its uplink."""
    trunk: TrunkPort | None = None
    ovs: OvsPort | None = None
    """Only with ``Switch.OPENVSWITCH``."""
    metric: int | None = None
    """Of the IPv4 routes; None: 100 + index."""
    metric6: int | None = None
    method: Method = Method.STATIC
    method6: Method = Method.STATIC
    routes: tuple[Route, ...] = ()
    inbound: Bandwidth | None = None
    """To the VM."""
    outbound: Bandwidth | None = None
    """From the VM."""
    rules: tuple[SecurityRule, ...] | None = None
    """Security groups; None: not filtered (``bridge``, ``dummy``), empty: only answers to established flows pass."""
    spoofing: Spoofing = field(default_factory=Spoofing)
    probe: bool = False
    """Ask the network whether somebody has the addresses already, and refuse them then."""
    dns: tuple[str, ...] = ()
    """Name servers, for the VM's resolv.conf."""
    search: tuple[str, ...] = ()
    """Search domains, for the same."""
    leased: Leased | None = None
    """What a DHCP server has given to it. Only the node that has the lease fills it in; nobody can ask for it."""


@dataclass(frozen=True, slots=True)
class Network:
    """Everything that is plumbed for one VM: its namespace and all its NICs."""

    vm: VmId
    nics: tuple[Nic, ...] = ()
    dns: tuple[str, ...] | None = None
    """Name servers after those of the NICs. None: not asked for, the VM's resolv.conf is the engine's business."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """How the container of a VM is to be created; translated to the engine's JSON by ``nodeside.docker``."""

    image: str
    """A reference that the engine can pull, pinned by digest: ``registry:5000/onedock/image-7@sha256:…``."""
    hostname: str
    command: tuple[str, ...] | None = None
    """None: the image's own command."""
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str | None = None
    user: str | None = None
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) pairs for /etc/hosts."""
    cpu_shares: int = 1024
    """Weight, 1024 for CPU=1."""
    cpu_quota_us: int = 0
    """Microseconds of CPU per period of 100 ms; 0: no quota."""
    memory_bytes: int = 0
    """Limit of memory, and of memory and swap together; 0: no limit."""
    pids: int = 0
    """Limit of processes; 0: no limit."""
    log_max_bytes: int = 10 * 1024 * 1024

    def digest(self) -> str:
        """A hash of every field, kept as a label: the engine's defaults make comparing its answers useless."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def limits(self) -> tuple[int, int, int, int]:
        """The fields that a live container can take over: shares, quota, memory, pids."""
        return (self.cpu_shares, self.cpu_quota_us, self.memory_bytes, self.pids)


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM as its driver message says: everything that a node needs to run it."""

    vm: VmId
    name: str
    node: NodeName
    instance: str
    """Tells this VM from an earlier one with the same id (an OpenNebula whose database was made anew)."""
    container: ContainerSpec
    network: Network
    notes: tuple[str, ...] = ()
    """Sentences for the VM's log: what was left out of the spec and why."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of one VM, with the generation that the outcome will speak of."""

    vm: VmId
    node: NodeName
    power: Power
    generation: int = 0
    spec: VmSpec | None = None
    """Absent for a VM that is only to be removed."""
    grace_s: float | None = None
    """How long a stop waits for the process before it kills; None: kill at once."""
    restart_from: str | None = None
    """A restart is wanted of the run that began then (the engine's ``StartedAt``); any other run satisfies it."""


class Phase(StrEnum):
    """The engine's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Container:
    """One container as the engine shows it."""

    id: ContainerId
    name: str
    vm: VmId | None
    """From our label; None: not ours."""
    instance: str
    spec_digest: str
    image: str
    phase: Phase
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = ""
    """RFC 3339 with nanoseconds; the engine's zero time means never."""
    finished_at: str = ""
    limits: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def ever_started(self) -> bool:
        """Whether a process ever ran in it: if not, nothing is lost by removing it."""
        return self.phase is not Phase.CREATED and not self.started_at.startswith("0001-")


@dataclass(frozen=True, slots=True)
class ObservedNic:
    """One NIC as the kernel shows it, with the same fields as ``Nic`` plus its state."""

    nic: Nic
    up: bool
    carrier: bool = False


@dataclass(frozen=True, slots=True)
class ObservedNetwork:
    """What the agent found of a VM's network."""

    vm: VmId
    nics: tuple[ObservedNic, ...] = ()
    containers: tuple[ContainerId, ...] = ()
    """Containers whose processes will be started in this namespace."""
    missing: tuple[str, ...] = ()
    """What the agent would have to do to make it as it was last asked for, a line each; empty: nothing."""
    waiting: tuple[str, ...] = ()
    """What only others can give, a line each (the lease of a DHCP server): nothing that a plan could do."""

    def provides(self, network: Network) -> bool:
        """Whether every NIC is as wanted, up, and no other is there."""
        if self.missing:
            return False
        want = tuple(sorted(network.nics, key=lambda nic: nic.index))
        have = tuple(sorted((seen.nic for seen in self.nics), key=lambda nic: nic.index))
        return want == have and all(seen.up for seen in self.nics)


@dataclass(frozen=True, slots=True)
class Observed:
    """All that is known of one VM on its node, read in one pass."""

    image_present: bool = False
    container: Container | None = None
    network: ObservedNetwork | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is true or not about a VM, since when and why; ``since`` stays while the truth stays."""

    name: str
    ok: bool
    reason: str
    """One word in CamelCase, for machines."""
    message: str = ""
    since: float = field(default=0.0, compare=False)
    """Unix time, for display only."""
