"""What monitoring messages mean: texts to reports, and the five rules of STATE_VM (protocol reference 5.6). Pure."""

import base64
import binascii
import zlib
from dataclasses import dataclass

from onedock.lab.opennebula import lcm, templates
from onedock.lab.opennebula.objects import Vm
from onedock.lab.opennebula.states import LcmState, VmState
from onedock.lab.opennebula.templates import get, vectors

GUARD_SECONDS = 30
_SYNCHRONISED = (
    LcmState.RUNNING,
    LcmState.UNKNOWN,
    LcmState.SHUTDOWN,
    LcmState.SHUTDOWN_POWEROFF,
    LcmState.SHUTDOWN_UNDEPLOY,
)


@dataclass(frozen=True, slots=True)
class VmReport:
    """One ``VM=[…]`` entry of a STATE_VM message."""

    id: int
    deploy_id: str
    state: str


@dataclass(frozen=True, slots=True)
class StateReport:
    """A STATE_VM message; ``missing`` is the state of VMs not listed, "" when the list is no complete one."""

    vms: tuple[VmReport, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class MonitorMessage:
    """One message to monitord: from the IM driver, a datagram or a connection."""

    type: str
    ok: bool
    host_id: int
    epoch: int
    text: str


class MonitorMessageError(ValueError):
    """The line is no monitoring message."""


def read(line: str) -> MonitorMessage:
    """Decodes ``TYPE RESULT HOST_ID EPOCH base64(zlib(text))``.

    Raises:
        MonitorMessageError: Words are missing or do not decode.
    """
    words = line.split()
    if len(words) < 4:
        raise MonitorMessageError(f"monitor message has {len(words)} words instead of 4 or 5: {line[:60]!r}")
    kind, result, host_id, epoch, *data = words
    try:
        text = zlib.decompress(base64.b64decode(data[0], validate=True)).decode(errors="replace") if data else ""
        return MonitorMessage(kind, result == "SUCCESS", int(host_id), int(epoch), text)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise MonitorMessageError(f"monitor message cannot be decoded: {error}: {line[:60]!r}") from error


def encode(text: str) -> str:
    """``base64(zlib(text))``; nothing for an empty text."""
    return base64.b64encode(zlib.compress(text.encode())).decode() if text else ""


def state_report(text: str) -> StateReport:
    """Reads the text of a STATE_VM message.

    Raises:
        onedock.lab.opennebula.templates.TemplateError: It is no template text.
    """
    template = templates.parse(text)
    vms = tuple(
        VmReport(int(vm.get("ID", "-1")), vm.get("DEPLOY_ID", ""), vm.get("STATE", ""))
        for vm in vectors(template, "VM")
    )
    complete = get(template, "SYNC_STATE").upper() == "YES"
    return StateReport(vms, get(template, "MISSING_STATE") if complete else "")


def belongs(vm: Vm, host_id: int) -> bool:
    """Rule 1: only the host of the current history record may report a VM."""
    return bool(vm.history) and vm.record.hid == host_id and vm.state is not VmState.DONE


def guarded(vm: Vm, now: float, seconds: float) -> bool:
    """Rule 3: whether the current record started or ended its run less than ``seconds`` ago."""
    return now - vm.record.rstime < seconds or now - vm.record.retime < seconds


def missing_step(vm: Vm, missing: str) -> lcm.Step | None:
    """Rule 5: what a complete list without the VM does to it; the guard does not apply."""
    if vm.state is not VmState.ACTIVE or vm.lcm_state not in _SYNCHRONISED:
        return None
    if missing == "POWEROFF":
        return lcm.on_report("POWEROFF", vm.state, vm.lcm_state)
    return lcm.active(LcmState.UNKNOWN) if vm.lcm_state is LcmState.RUNNING else None


def vm_monitoring(text: str) -> dict[int, templates.Vector]:
    """MONITOR_VM: VM id → its values; entries without a VM of OpenNebula (id below 0) are left out.

    Raises:
        onedock.lab.opennebula.templates.TemplateError: A text is no template text.
    """
    values: dict[int, templates.Vector] = {}
    for entry in vectors(templates.parse(text), "VM"):
        number = int(entry.get("ID", "-1"))
        if number < 0:
            continue
        try:
            inner = base64.b64decode(entry.get("MONITOR", ""), validate=True).decode(errors="replace")
        except binascii.Error as error:
            raise templates.TemplateError(f"MONITOR of VM {number} is no base64") from error
        flat = {
            name: value
            for name, all_values in templates.parse(inner).items()
            for value in all_values
            if isinstance(value, str)
        }
        values[number] = values.get(number, {}) | flat
    return values
