"""VMM_DRIVER_ACTION_DATA: what a message to the VMM driver carries (protocol reference 2.1-2.3)."""

import base64
from dataclasses import dataclass, replace

from onedock.lab.opennebula import documents
from onedock.lab.opennebula.documents import element
from onedock.lab.opennebula.objects import Datastore, Vm
from onedock.lab.opennebula.states import LcmState
from onedock.lab.opennebula.templates import cdata, vectors
from onedock.lab.opennebula.transfer import Lines, Places

_PREVIOUS_HOST = (LcmState.SAVE_MIGRATE, LcmState.MIGRATE)
_WITH_CONTEXT = ("DEPLOY", "RESTORE", "ATTACHNIC", "DETACHNIC", "UPDATECONF")
_WITH_CHECKPOINT = ("SAVE", "RESTORE", "DISKSNAPSHOTCREATE")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The elements that differ between actions."""

    host: str
    migrate_host: str = ""
    command: str = ""
    rollback: str = ""
    path: str = ""


def line(action: str, vm: Vm, datastore: Datastore, places: Places, *, about: str = "") -> str:
    """One line for the pipe: action, two blanks (the status is empty), VM id and base64 of the document.

    Args:
        action: Message type.
        vm: The VM in the state that the message announces.
        datastore: Its system datastore.
        places: Paths and names of the front-end.
        about: Security group id (UPDATESG) or network id (UPDATENIC).
    """
    if action == "DRIVER_CANCEL":
        return f"{action}  {vm.id} "
    payload = base64.b64encode(document(action, vm, datastore, places, about=about).encode()).decode()
    return f"{action}  {vm.id} {payload}"


def document(action: str, vm: Vm, datastore: Datastore, places: Places, *, about: str = "") -> str:
    """The XML document of a message."""
    lines = Lines(vm, places)
    fields = _fields(action, vm, lines)
    deploying = action == "DEPLOY"
    local = f"{places.vm_directory(vm.id)}/deployment.{vm.record.seq}" if deploying else ""
    remote = f"{lines.system_directory}/deployment.{vm.record.seq}" if deploying else ""
    checkpoint = f"{lines.system_directory}/checkpoint" if action in _WITH_CHECKPOINT else ""
    extra = ""
    if about:
        extra = element("SECURITY_GROUP_ID" if action == "UPDATESG" else "VIRTUAL_NETWORK_ID", about)
    return (
        "<VMM_DRIVER_ACTION_DATA>"
        + _plain("HOST", fields.host)
        + _plain("MIGR_HOST", fields.migrate_host)
        + _plain("DEPLOY_ID", "" if deploying else vm.deploy_id)
        + _plain("LOCAL_DEPLOYMENT_FILE", local)
        + _plain("REMOTE_DEPLOYMENT_FILE", remote)
        + _plain("CHECKPOINT_FILE", checkpoint)
        + _command("TM_COMMAND", fields.command)
        + _command("TM_COMMAND_ROLLBACK", fields.rollback)
        + _plain("DISK_TARGET_PATH", fields.path)
        + extra
        + _vm_document(action, vm)
        + documents.datastore(datastore)
        + "</VMM_DRIVER_ACTION_DATA>"
    )


def _vm_document(action: str, vm: Vm) -> str:
    if action != "UPDATENIC":
        return documents.vm(vm, stored=True)
    # recorded: sent from the object of the API call, with monitoring and before the previous state has followed
    return documents.vm(replace(vm, history=vm.history[-1:], prev_lcm_state=LcmState.RUNNING))


def _plain(name: str, text: str) -> str:
    return element(name, text) if text else f"<{name}/>"


def _command(name: str, text: str) -> str:
    return cdata(name, text) if text else f"<{name}/>"


def _fields(action: str, vm: Vm, lines: Lines) -> _Fields:
    host = vm.record.hostname
    previous = vm.history[-2].hostname if len(vm.history) > 1 else host
    if action in _WITH_CONTEXT:
        command, path = lines.context()
        return _Fields(host, command=command, path=path)
    if action == "MIGRATE":
        record, directory = vm.record, lines.system_directory
        command = f"MIGRATE {record.tm_mad} {previous} {host} {directory} {vm.id} {record.ds_id}\n"
        return _Fields(previous, migrate_host=host, command=command, path=directory)
    if action == "CLEANUP":
        if vm.record.action in (1, 2) and vm.record.rstime == 0:
            return _Fields(host, migrate_host=previous, command=lines.delete())
        return _Fields(host, command=lines.delete())
    if vm.lcm_state in _PREVIOUS_HOST:
        return _Fields(previous)
    if action in ("ATTACHDISK", "DETACHDISK"):
        disk = lines.marked_disk("ATTACH")
        if action == "DETACHDISK":
            return _Fields(host, command=lines.epilog_line(disk), path=lines.disk_path(disk))
        created, removed = lines.prolog_line(disk), lines.epilog_line(disk)
        return _Fields(host, command=created, rollback=removed, path=lines.disk_path(disk))
    if action == "RESIZEDISK":
        disk = lines.marked_disk("RESIZE")
        return _Fields(host, command=lines.script("disk_resize"), path=lines.disk_path(disk))
    if action == "DISKSNAPSHOTCREATE":
        disk = lines.marked_disk("DISK_SNAPSHOT_ACTIVE")
        return _Fields(host, command=lines.script("disk_snapshot"), path=lines.disk_path(disk))
    return _Fields(host)


def context_script(vm: Vm) -> str:
    """The text of ``context.sh``: one shell assignment per CONTEXT attribute."""
    head = "# Context variables generated by OpenNebula\n"
    contexts = vectors(vm.template, "CONTEXT")
    if not contexts:
        return head
    escaped = {key: contexts[0][key].replace("'", "'\\''") for key in sorted(contexts[0])}
    return head + "".join(f"{key}='{text}'\n" for key, text in escaped.items())
