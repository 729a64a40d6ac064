"""MONITOR_CONFIGURATION: what monitord tells an IM driver about itself (protocol reference 5.2, 5.4)."""

from dataclasses import dataclass

from onedock.lab.opennebula import hosts
from onedock.lab.opennebula.monitor import GUARD_SECONDS
from onedock.lab.opennebula.objects import Host
from onedock.lab.opennebula.templates import Template, Vector, to_xml

_PROBES_PERIOD: Vector = {
    "BEACON_HOST": "30",
    "EXEC_VM": "5",
    "MONITOR_HOST": "120",
    "MONITOR_VM": "30",
    "STATE_VM": "5",
    "SYNC_STATE_VM": "180",
    "SYSTEM_HOST": "600",
}


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Where monitord listens and how patient it is; seconds."""

    port: int
    address: str = "127.0.0.1"
    guard: float = GUARD_SECONDS
    host_interval: float = 180
    timer: float = 15
    start_timeout: float = 300


def document(settings: MonitorSettings, name: str, im: tuple[str, str], datastore_location: str) -> str:
    """The document.

    Args:
        settings: Port and times.
        name: Name of the IM driver.
        im: Its executable and argument string.
        datastore_location: DATASTORE_LOCATION of oned.
    """
    executable, arguments = im
    driver: Vector = {
        "ARGUMENTS": arguments,
        "EXECUTABLE": executable,
        "NAME": name,
        "SUNSTONE_NAME": "ONEDock",
        "THREADS": "0",
    }
    network: Vector = {
        "ADDRESS": settings.address,
        "MONITOR_ADDRESS": "auto",
        "PORT": str(settings.port),
        "PRIKEY": "",
        "PUBKEY": "",
        "THREADS": "8",
    }
    template: Template = {
        "DATASTORE_LOCATION": [datastore_location],
        "DB": [{"CONNECTIONS": "15"}],
        "HOST_MONITORING_EXPIRATION_TIME": ["43200"],
        "IM_MAD": [driver],
        "LOG": [{"DEBUG_LEVEL": "3", "SYSTEM": "FILE"}],
        "MANAGER_TIMER": [f"{settings.timer:g}"],
        "MONITORING_INTERVAL_HOST": [f"{settings.host_interval:g}"],
        "NETWORK": [network],
        "PROBES_PERIOD": [_PROBES_PERIOD],
        "VM_MONITORING_EXPIRATION_TIME": ["43200"],
    }
    return f"<MONITOR_CONFIGURATION>{to_xml(template)}</MONITOR_CONFIGURATION>"


def action_document(host: Host, configuration: str) -> str:
    """MONITOR_DRIVER_ACTION: the host that a START_MONITOR or STOP_MONITOR is about, with the configuration."""
    return f"<MONITOR_DRIVER_ACTION><HOST>{hosts.identity(host)}</HOST>{configuration}</MONITOR_DRIVER_ACTION>"
