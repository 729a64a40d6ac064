"""Every setting of ONEDock: typed, validated, documented under its field.

Read from one TOML file (``/etc/onedock/onedock.toml``, or what ``ONEDOCK_CONFIG`` names); an environment variable
``ONEDOCK_<SECTION>__<NAME>`` overrides one value. Front-end and node use the same file and the same model.
"""

import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_FILE = Path("/etc/onedock/onedock.toml")

Seconds = Annotated[float, Field(gt=0)]


class SettingsError(Exception):
    """The settings cannot be used. The message names file, field and remedy."""


class Section(BaseModel):
    """Common behaviour of the sections: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ControllerSettings(Section):
    """The controller on the front-end."""

    driver_socket: Path = Path("/run/onedock/driver.sock")
    """Unix socket on which oned's drivers and scripts hand over their requests."""
    api_socket: Path = Path("/run/onedock/api.sock")
    """Unix socket of the HTTP API: status, log, metrics, health. Used by the `onedock` command."""
    state_dir: Path = Path("/var/lib/onedock/controller")
    """Directory of the journal."""
    workers: int = Field(default=256, ge=1)
    """How many VMs may be worked on at the same time, over all nodes. Most of them wait: for a stop, for a pull."""
    starts_per_node: int = Field(default=4, ge=1)
    """How many containers one node starts at the same time. The engine gets no faster beyond two per core."""
    deadline_s: Seconds = 300.0
    """How long a request of oned may be retried before it is answered with a failure."""
    stop_grace_s: Seconds = 10.0
    """How long a shutdown or reboot waits for the process before it is killed."""
    resync_s: Seconds = 60.0
    """Interval of the comparison with OpenNebula and with the engines' full lists."""
    orphan_grace_s: Seconds = 300.0
    """How long a labelled container, or a namespace, that belongs to no VM of OpenNebula is left alone."""
    log_keep_per_vm: int = Field(default=2000, ge=10)
    """Lines of the reconcile log kept for each VM."""
    web_port: int = Field(default=0, ge=0, le=65535)
    """Port of the read-only web page on 127.0.0.1; 0: off. It asks for no password: every user of this machine sees
    what `onedock status`, `explain` and `log` show."""


class OpenNebulaSettings(Section):
    """How to reach oned, and where its files are."""

    endpoint: str = "http://127.0.0.1:2633/RPC2"
    """Address of the XML-RPC API."""
    driver: str = "onedock"
    """NAME of the VM_MAD and IM_MAD stanzas: hosts with this VM_MAD are ours."""
    auth_file: Path = Path("/var/lib/one/.one/one_auth")
    """File that holds `user:password` of an administrator (oneadmin)."""
    remotes_dir: Path = Path("/var/lib/one/remotes")
    """oned's REMOTES directory: stock transfer scripts named in a clean-up are run from here."""
    events: str = ""
    """Address of the ZeroMQ publisher of the hook manager, e.g. `tcp://127.0.0.1:2101`; empty: not used."""
    state_guard_s: Seconds = 30.0
    """How long oned ignores a pushed state after a start or change of a VM (a constant of OpenNebula 7.4)."""


class RegistrySettings(Section):
    """The Docker registry (OCI distribution) that stores the images."""

    address: str = "127.0.0.1:5000"
    """host:port as front-end and nodes reach it."""
    repository: str = Field(default="onedock", pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$")
    """First part of the repository name; image 7 of OpenNebula becomes `<repository>/image-7`."""
    tls: bool = True
    """Speak HTTPS to the registry. Off is only for a registry on this machine."""
    default_source: str = "docker.io"
    """Registry that a path without one (`docker://alpine:3.20`) is taken from."""
    insecure_sources: tuple[str, ...] = ()
    """host:port of source registries that speak plain HTTP."""
    auth_file: Path | None = None
    """Credentials for source registries and this one, in the format of `~/.docker/config.json`."""
    data_dir: Path | None = None
    """Directory whose file system is reported as the datastore's size; unset: that of the controller's state."""
    scratch_dir: Path = Path("/var/tmp")  # noqa: S108 - a directory for large temporary archives, used by mkdtemp
    """Where archives given by http are put while they are imported."""
    unused_image_keep_s: float = Field(default=86400.0, ge=0)
    """How long a node keeps an image that no VM uses any more. 0: removed with its last VM."""


class ContainerSettings(Section):
    """Defaults for the containers that are VMs."""

    default_command: str = ""
    """Command for images without a DOCKERRUN of their own; empty: the image's own command."""
    pids_limit: int = Field(default=4096, ge=0)
    """Processes and threads per VM; 0: no limit."""
    log_max_mb: int = Field(default=10, ge=1)
    """Size of the output that the engine keeps per VM."""
    default_prefix_length: int = Field(default=24, ge=1, le=32)
    """Prefix of an IPv4 address when neither context nor network name a mask."""
    dns: tuple[str, ...] = ()
    """Name servers added after those of the VM's networks."""
    runtime: str = "onedock"
    """Name under which onedock-runtime is registered in the engine."""


class NetworkSettings(Section):
    """How networks are plugged where neither the virtual network nor the template says it."""

    keep_empty_bridge: bool = False
    """Leave a bridge that was made for a VM, with its uplink, when the last VM has gone. A network's
    `CONF="keep_empty_bridge=…"` says it for that network, and likewise the names below that begin with `vlan_` or
    `vxlan_`; `vxlan_mc` and `vxlan_multicast` are the same there."""
    vlan_mtu: int = Field(default=0, ge=0, le=65535)
    """MTU of the VLAN links, and of the NICs, of networks without `MTU`; 0: the kernel's choice."""
    vxlan_mtu: int = Field(default=1450, ge=0, le=65535)
    """The same for VXLAN. The default is what fits into packets of 1500 bytes."""
    vxlan_mode: Literal["multicast", "evpn"] = "multicast"
    """How VXLAN finds the other nodes, unless `vxlan_remotes` names them: by a multicast group, or told by a daemon
    that speaks EVPN."""
    vxlan_multicast: str = "239.0.0.0"
    """The multicast group of a VXLAN is this address plus its id."""
    vxlan_ttl: int = Field(default=16, ge=0, le=255)
    """Hops of VXLAN packets. Must be more than 1 in routed multicast networks."""
    vxlan_tep: Literal["dev", "local_ip"] = "dev"
    """Whether VXLAN packets without a multicast group leave by the physical device, or from its first address."""
    vxlan_port: int = Field(default=8472, ge=1, le=65535)
    """UDP port of VXLAN. The default is Linux's; IANA's is 4789."""
    vxlan_remotes: tuple[str, ...] = ()
    """Addresses of all nodes: broadcasts are sent to each of them instead of to a multicast group."""
    probe_addresses: bool = False
    """Ask the network whether somebody has the addresses of a NIC already before it is plugged, and refuse it then."""


class NodeSettings(Section):
    """One node, named as its host in OpenNebula."""

    engine: str = "unix:///var/run/docker.sock"
    """Address of the Docker engine: unix://… or https://host:2376."""
    agent: Path = Path("/run/onedock/agent.sock")
    """Unix socket of the node agent."""


class AgentSettings(Section):
    """The agent on a node."""

    socket: Path = Path("/run/onedock/agent.sock")
    """Unix socket that the controller talks to."""
    socket_group: str = ""
    """Group that may use the socket besides root; empty: only root."""
    state_dir: Path = Path("/var/lib/onedock/agent")
    """Where the last desired network of each VM is kept, so that a node heals with no front-end."""
    runtime_dir: Path = Path("/run/onedock/runtime")
    """Where onedock-runtime finds the namespace of a container."""
    dhcp_wait_s: float = Field(default=5.0, ge=0, le=20)
    """How long the start of a VM waits for a DHCP server; after that it starts without the address, which it gets as
    soon as one answers. 0: not at all."""
    engine_root: Path = Path("/var/lib/docker")
    """The engine's data directory: it has the resolv.conf of each container, and its file system is reported as the
    node's disk."""


class MonitorSettings(Section):
    """What is reported to OpenNebula, and how often."""

    host_s: Seconds = 60.0
    """Interval of MONITOR_HOST, which keeps a host alive in OpenNebula (it must come every 180 s)."""
    system_s: Seconds = 600.0
    """Interval of SYSTEM_HOST."""
    vm_s: Seconds = 30.0
    """Interval of MONITOR_VM."""
    disk_s: Seconds = 600.0
    """Interval at which the size of each VM's root disk is counted; the engine walks all its files for that."""
    beacon_s: Seconds = 30.0
    """Interval of the beacon."""
    failure_after_s: Seconds = 30.0
    """How long engine or agent of a node may be unreachable before its host is reported as failed."""


class LogSettings(Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""
    format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""


class Settings(BaseSettings):
    """All sections."""

    model_config = SettingsConfigDict(
        env_prefix="ONEDOCK_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    controller: ControllerSettings = ControllerSettings()
    opennebula: OpenNebulaSettings = OpenNebulaSettings()
    registry: RegistrySettings = RegistrySettings()
    containers: ContainerSettings = ContainerSettings()
    networks: NetworkSettings = NetworkSettings()
    agent: AgentSettings = AgentSettings()
    monitor: MonitorSettings = MonitorSettings()
    log: LogSettings = LogSettings()
    nodes: dict[str, NodeSettings] = Field(default_factory=dict)
    """Nodes by the name of their host in OpenNebula. Without any, this machine is the only node."""

    def node(self, name: str) -> NodeSettings | None:
        """The settings of a node; with an empty table, this machine under its own name is one."""
        if self.nodes:
            return self.nodes.get(name)
        return NodeSettings() if name in {"localhost", socket.gethostname(), socket.getfqdn()} else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, settings_file())


def settings_file() -> Path:
    """The TOML file in use; it need not exist."""
    return Path(os.environ.get("ONEDOCK_CONFIG", DEFAULT_FILE))


def load_settings() -> Settings:
    """Read file and environment. Raises SettingsError with a line for each thing that is wrong."""
    path = settings_file()
    try:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise SettingsError("\n".join(lines)) from error
