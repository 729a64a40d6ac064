"""The core of oned: applies life-cycle steps to VMs, sends what they request and takes what drivers answer."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from onedock.lab.opennebula import (
    context,
    disks,
    documents,
    driver_message,
    hot_actions,
    hotplug,
    instantiate,
    lcm,
    records,
    recovery,
    updates,
)
from onedock.lab.opennebula.images import Images
from onedock.lab.opennebula.lcm import Request, Step
from onedock.lab.opennebula.logs import Logs, stamp
from onedock.lab.opennebula.mad import Driver, Message
from onedock.lab.opennebula.objects import Datastore, History, Host, Image, Vm
from onedock.lab.opennebula.scripts import Scripts
from onedock.lab.opennebula.states import LcmState, VmState
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import vectors
from onedock.lab.opennebula.transfer import Lines, Places
from onedock.lab.opennebula.updates import Updates

ERROR_LENGTH = 100
FIRST_PORT = 5900
_NO_STATE = ("REBOOT", "RESET", "BACKUPCANCEL", "DRIVER_CANCEL")
_WITH_CONTEXT = ("DEPLOY", "RESTORE")
_STOPS, _UNDEPLOYS = (9,), (5, 6)


class Oned:
    """The VMs of one OpenNebula, their driver and their scripts.

    Args:
        store: The pools.
        places: Paths and names.
        scripts: Runs transfer scripts.
        images: The image manager.
        logs: Log files.
        vmm: Executable and argument string of the VMM driver.
    """

    def __init__(
        self, store: Store, places: Places, scripts: Scripts, images: Images, logs: Logs, vmm: tuple[str, str]
    ) -> None:
        self.store = store
        self.places = places
        self.images = images
        self.logs = logs
        self.vmm = Driver("vmm", *vmm, self.on_message)
        self.updates = Updates(self)
        self._scripts = scripts
        self._transfers: dict[int, asyncio.Task[None]] = {}
        self._request_id = 0

    async def start(self) -> None:
        """Starts the driver.

        Raises:
            onedock.lab.opennebula.mad.DriverStartError: It does not start.
        """
        await self.vmm.start()

    async def stop(self) -> None:
        """Ends the driver and forgets running transfers."""
        for task in self._transfers.values():
            task.cancel()
        await self.vmm.stop()

    def apply(self, vm: Vm, step: Step, *, action: str = "", about: str = "") -> None:
        """Makes the step: history, state, durable; then its requests in order.

        Args:
            vm: The VM.
            step: What happens.
            action: Name of the user's action that led here, "" for none.
            about: Security group or network id that a message is about.
        """
        now = int(time.time())
        self._request_id += 1
        before = vm.lcm_state
        records.write(vm, step.marks, now=now, action=action, request_id=self._request_id)
        records.set_state(vm, step.state, step.lcm)
        if (step.state, step.lcm) != (VmState.ACTIVE, before):
            name = f"LCM state is {step.lcm.name}" if step.state is VmState.ACTIVE else f"state is {step.state.name}"
            self.logs.vm(vm.id, "VM", "I", f"New {name}")
        if step.state is VmState.PENDING:
            self._make_pending(vm)
        if step.lcm in (LcmState.CLEANUP_RESUBMIT, LcmState.CLEANUP_DELETE) or step.state is VmState.DONE:
            for screen in vectors(vm.template, "GRAPHICS"):
                screen.pop("PORT", None)
        if step.state is VmState.DONE:
            self._finish(vm, now)
        self.store.save(vm)
        for request in step.requests:
            self.send(vm, request, about=about)

    def _make_pending(self, vm: Vm) -> None:
        if not vm.history:
            return
        if vm.record.action in (*_STOPS, *_UNDEPLOYS):
            requirement = f'{instantiate.CLUSTER_REQUIREMENT} & (TM_MAD = "{vm.record.tm_mad}")'
            vm.template["AUTOMATIC_DS_REQUIREMENTS"] = [requirement]
        else:
            vm.deploy_id = ""

    def _finish(self, vm: Vm, now: int) -> None:
        vm.etime = now
        for command in vectors(vm.template, "QEMU_GA_EXEC"):
            command["STATUS"] = "CANCELLED"
        instantiate.release(self.store, vm)
        updates.follow(self.store, vm)

    def send(self, vm: Vm, request: Request, *, about: str = "") -> None:
        """Sends one request to the driver or starts one transfer script."""
        if request.to == "tm":
            self._start_transfer(vm, request.name)
            return
        if request.name in _WITH_CONTEXT:
            context.refresh(vm, self.store.networks.objects)
            self.store.save(vm)
        directory = Path(self.places.vm_directory(vm.id))
        directory.mkdir(parents=True, exist_ok=True)
        if Lines(vm, self.places).context()[0]:
            (directory / "context.sh").write_text(driver_message.context_script(vm))
        if request.name == "DEPLOY":
            file = directory / f"deployment.{vm.record.seq}"
            file.write_text(documents.vm(vm, stored=True))
        datastore = self.store.datastores.objects[vm.record.ds_id]
        self.vmm.write(driver_message.line(request.name, vm, datastore, self.places, about=about))

    def _start_transfer(self, vm: Vm, name: str) -> None:
        text = Lines(vm, self.places).script(name)
        suffix = name.removesuffix("_stopped")
        directory = Path(self.places.vm_directory(vm.id))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"transfer.{vm.record.seq}.{suffix}").write_text(text)
        self._transfers[vm.id] = asyncio.get_running_loop().create_task(self._transfer(vm.id, text))

    async def _transfer(self, vm_id: int, text: str) -> None:
        outcome = await self._scripts.transfer(text)
        for level, line in outcome.log:
            self.logs.vm(vm_id, "TrM", level, line)
        info = "-" if outcome.ok else f"Error executing image transfer script: {outcome.info}"
        self.on_message(Message("TRANSFER", "SUCCESS" if outcome.ok else "FAILURE", vm_id, info))

    def cancel_transfer(self, vm_id: int) -> None:
        """TM DRIVER_CANCEL: the result of the running script is not wanted any more."""
        if task := self._transfers.pop(vm_id, None):
            task.cancel()

    def on_message(self, message: Message) -> None:
        """One line of the VMM driver, or the result of a transfer script."""
        if message.type == "LOG":
            self.logs.vm(message.id, "VMM", message.result[:1], message.payload)
            return
        vm = self.store.vms.get(message.id)
        if vm is None or message.type in _NO_STATE:
            return
        if vm.lcm_state is LcmState.LCM_INIT:
            text = f"Ignored: {message.type} {message.result} {message.id} {message.payload}"
            self.logs.vm(vm.id, "VMM", "W", text)
            return
        ok, info = message.ok, message.payload
        if message.type in updates.ABOUT:
            self.updates.answered(vm, message)
            return
        if message.type == "DEPLOY" and ok:
            words = info.split()
            ok = bool(words) and words[0] != "-"
            vm.deploy_id = words[0] if ok else vm.deploy_id
        self.settle(vm, message.type, ok, info)

    def settle(self, vm: Vm, message: str, ok: bool, info: str) -> None:
        """Applies an answer to what the VM is doing now."""
        before = vm.lcm_state
        action = vm.record.action if vm.history else 0
        step = lcm.on_answer(message, ok, before, record_action=action)
        if step is None:
            self.logs.vm(vm.id, "VMM", "W", f"Wrong state for answer {message}: {before.name}")
            return
        if not ok and message != "CLEANUP":
            self.note_failure(vm, message, info)
        if step.settle:
            hotplug.settle(self.store, vm, message, before, ok=ok, info=info)
            if vm.saveas:
                self.images.saved(self.store.images.objects[int(vm.saveas["IMAGE_ID"])], ok)
                vm.saveas = {}
        self.apply(vm, step)

    def note_failure(self, vm: Vm, message: str, info: str) -> None:
        """Tell the user: in the VM's log and its ERROR attribute."""
        shown = info if info and not info.startswith("-") else ""
        text = f"{message}: {shown}" if shown else message
        if message == "TRANSFER":
            text = shown
        self.logs.vm(vm.id, "TrM" if message == "TRANSFER" else "VMM", "E", text)
        vm.user_template["ERROR"] = [f"{stamp(time.time())}: {text}"[:ERROR_LENGTH]]

    def record_on(self, host: Host, datastore: Datastore) -> History:
        """A history record for a stay on that host."""
        return History(
            seq=0, hostname=host.name, hid=host.id, ds_id=datastore.id, vm_mad=host.vm_mad, tm_mad=datastore.tm_mad
        )

    def deploy(self, vm: Vm, host: Host, datastore: Datastore) -> None:
        """Places a PENDING or held VM: prolog or resume, then boot.

        Raises:
            onedock.lab.opennebula.lcm.WrongStateError: It is in another state.
        """
        if vm.state not in (VmState.PENDING, VmState.HOLD):
            raise lcm.WrongStateError
        now = int(time.time())
        previous = vm.record.action if vm.history else 0
        records.start(vm, self.record_on(host, datastore), now)
        vm.template["TM_MAD_SYSTEM"] = [datastore.tm_mad]
        for disk in vectors(vm.template, "DISK"):
            if "IMAGE_ID" not in disk:
                disks.place_volatile(disk, datastore)
        for screen in vectors(vm.template, "GRAPHICS"):
            screen["PORT"] = str(FIRST_PORT + vm.id)
        if previous in _STOPS:
            step = lcm.active(LcmState.PROLOG_RESUME, requests=lcm.tm("resume"))
        elif previous in _UNDEPLOYS:
            step = lcm.active(LcmState.PROLOG_UNDEPLOY, requests=lcm.tm("resume"))
        else:
            step = lcm.active(LcmState.PROLOG, requests=lcm.tm("prolog"))
        self.apply(vm, step)

    def migrate(self, vm: Vm, host: Host, datastore: Datastore, *, live: bool, kind: int) -> None:
        """``one.vm.migrate``; ``kind`` is 0 save, 1 poweroff, 2 poweroff-hard.

        Raises:
            onedock.lab.opennebula.lcm.WrongStateError: The VM cannot be moved now.
        """
        names = {0: "migrate", 1: "poff-migrate", 2: "poff-hard-migrate"}
        action = "live-migrate" if live else names[kind]
        resting = {
            VmState.POWEROFF: LcmState.PROLOG_MIGRATE_POWEROFF,
            VmState.SUSPENDED: LcmState.PROLOG_MIGRATE_SUSPEND,
        }
        if vm.lcm_state is LcmState.RUNNING:
            message = "MIGRATE" if live else {0: "SAVE", 1: "SHUTDOWN", 2: "CANCEL"}[kind]
            target = LcmState.MIGRATE if live else LcmState.SAVE_MIGRATE
            step = lcm.active(target, requests=lcm.vmm(message))
        elif vm.state in resting or vm.lcm_state is LcmState.UNKNOWN:
            target = resting.get(vm.state, LcmState.PROLOG_MIGRATE_UNKNOWN)
            step = lcm.active(target, lcm.Mark.PROLOG_START, requests=lcm.tm("migrate"))
        else:
            raise lcm.WrongStateError
        now = int(time.time())
        records.write(vm, (lcm.Mark.ACTION,), now=now, action=action, request_id=self._request_id + 1)
        if vm.lcm_state is not LcmState.RUNNING:
            vm.record.etime = now
        records.start(vm, self.record_on(host, datastore), now)
        vm.record.pstime = 0
        if not live:
            records.write(vm, (lcm.Mark.ACTION,), now=now, action=action, request_id=self._request_id + 1)
        self.apply(vm, step)

    def delete(self, vm: Vm, *, recreate: bool) -> None:
        """``recover --delete`` and ``--delete-recreate``: a deleted VM is DONE without waiting for the clean-up."""
        step = recovery.on_delete(vm.state, vm.lcm_state, recreate=recreate)
        self.cancel_transfer(vm.id)
        self.apply(vm, step, action="delete-recreate" if recreate else "delete")
        if not recreate and vm.state is not VmState.DONE:
            self.apply(vm, Step(VmState.DONE))

    def save_disk(self, vm: Vm, disk_id: int, name: str, snapshot: int) -> Image:
        """``one.vm.disksaveas``: an image is made, then the disk is copied into it.

        Raises:
            onedock.lab.opennebula.hotplug.HotplugError: There is no such disk.
            onedock.lab.opennebula.lcm.WrongStateError: It is not possible in this state.
        """
        disk = hotplug.find(vm, ("DISK",), "DISK_ID", disk_id)
        step = hot_actions.on_hot_action("disk-saveas", vm.state, vm.lcm_state)

        def made(image: Image, ok: bool) -> None:
            vm.saveas["SOURCE"] = image.source
            self.store.save(vm)
            if ok:
                self.send(vm, step.requests[0])
            else:
                self.settle(vm, "TRANSFER", False, "Error creating the image of the disk")

        image = self.images.save_as(vm, disk, name, made)
        vm.saveas = {"DISK_ID": str(disk_id), "IMAGE_ID": str(image.id), "SNAPSHOT_ID": str(snapshot)}
        self.apply(vm, replace(step, requests=()))
        return image
