"""monitord: starts monitoring of hosts, listens on UDP and TCP, and tells oned what the drivers report."""

import asyncio
import base64
import contextlib
import time
from xml.etree import ElementTree

from onedock.lab.opennebula import hosts, lcm, monitor, monitor_configuration, templates
from onedock.lab.opennebula.logs import Logs, stamp
from onedock.lab.opennebula.mad import Driver, Message
from onedock.lab.opennebula.monitor import MonitorMessage
from onedock.lab.opennebula.monitor_configuration import MonitorSettings
from onedock.lab.opennebula.objects import Host, Vm
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.states import HostState, LcmState, VmState
from onedock.lab.opennebula.templates import vectors

_STAMPED = ("MONITOR_VM", "MONITOR_HOST", "SYSTEM_HOST", "STATE_VM", "EXEC_VM")
_NOT_ON_PIPE = ("BEACON_HOST",)


class Monitord:
    """The monitoring side of one OpenNebula.

    Args:
        oned: Whose hosts and VMs these are.
        name: Name of the IM driver.
        im: Executable and argument string of the IM driver.
        settings: Port and times.
        logs: Log files.
    """

    def __init__(self, oned: Oned, name: str, im: tuple[str, str], settings: MonitorSettings, logs: Logs) -> None:
        self._oned = oned
        self._store = oned.store
        self._settings = settings
        self._configuration = monitor_configuration.document(settings, name, im, oned.places.datastores)
        self._logs = logs
        self.driver = Driver("im", *im, self._on_driver)
        self._last_seen: dict[int, float] = {}
        self._starting: dict[int, float] = {}
        self._stamps: dict[tuple[int, str], int] = {}
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Starts the driver and listens.

        Raises:
            onedock.lab.opennebula.mad.DriverStartError: The driver does not start.
            OSError: The port is taken.
        """
        loop = asyncio.get_running_loop()
        where = (self._settings.address, self._settings.port)
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=where)
        self._server = await asyncio.start_server(self._connection, *where)
        await self.driver.start()

    async def stop(self) -> None:
        """Ends the driver and stops listening."""
        if self._server:
            self._server.close()
        if self._datagrams:
            self._datagrams.close()
        await self.driver.stop()

    async def run(self) -> None:
        """Starts monitoring of hosts nobody has heard of for too long, until cancelled."""
        while True:
            now = time.time()
            for host in list(self._store.hosts.objects.values()):
                if host.state is not HostState.OFFLINE and self._is_silent(host, now):
                    self.start_monitoring(host)
            await asyncio.sleep(self._settings.timer)

    def _is_silent(self, host: Host, now: float) -> bool:
        if now - self._starting.get(host.id, 0) < self._settings.start_timeout:
            return False
        return now - self._last_seen.get(host.id, 0) > self._settings.host_interval

    def start_monitoring(self, host: Host) -> None:
        """START_MONITOR for a host; counts as a sign of life."""
        self._last_seen[host.id] = time.time()
        self._starting[host.id] = time.time()
        self._send("START_MONITOR", host)

    def stop_monitoring(self, host: Host) -> None:
        """STOP_MONITOR for a host that goes offline."""
        self._starting.pop(host.id, None)
        self._last_seen.pop(host.id, None)
        self._send("STOP_MONITOR", host)

    def forget_stamps(self, host_id: int) -> None:
        """A host that changed its state may send older times again."""
        self._stamps = {key: epoch for key, epoch in self._stamps.items() if key[0] != host_id}

    def _send(self, what: str, host: Host) -> None:
        xml = monitor_configuration.action_document(host, self._configuration)
        self.driver.write(f"{what} - {host.id} 0 {monitor.encode(xml)}")

    def _on_driver(self, message: Message) -> None:
        if message.type not in _NOT_ON_PIPE:
            self.on_line(f"{message.type} {message.result} {message.id} {message.payload}")

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            data = await reader.read(-1)
            self.on_line(data.decode(errors="replace"))
        writer.close()

    def on_line(self, line: str) -> None:
        """One message from whatever way it came; a bad one is logged and dropped."""
        try:
            self.handle(monitor.read(line))
        except (monitor.MonitorMessageError, templates.TemplateError, ValueError) as error:
            self._logs.monitor("E", str(error))

    def handle(self, message: MonitorMessage) -> None:
        """Takes one message.

        Raises:
            onedock.lab.opennebula.templates.TemplateError: Its text is malformed.
        """
        if message.type == "LOG":
            self._logs.monitor("I", message.text)
            return
        host = self._store.hosts.get(message.host_id)
        if host is None or host.state is HostState.OFFLINE or not self._is_in_order(message):
            # MONITOR_VM names VMs only, so it may come without a host
            if message.type == "MONITOR_VM" and message.host_id < 0:
                self._take_vm_monitoring(message)
            return
        match message.type:
            case "START_MONITOR":
                self._started(host, message)
            case "BEACON_HOST":
                self._seen(host, message)
            case "MONITOR_HOST":
                self._take_host_monitoring(host, message)
            case "SYSTEM_HOST":
                self._take_system(host, message)
            case "MONITOR_VM":
                self._take_vm_monitoring(message)
            case "STATE_VM" if message.ok:
                self._take_states(host, message)
            case "EXEC_VM" if message.ok:
                self._take_exec(message)

    def _is_in_order(self, message: MonitorMessage) -> bool:
        if message.epoch == 0 or message.type not in _STAMPED:
            return True
        key = (message.host_id, message.type)
        if message.epoch < self._stamps.get(key, 0):
            self._logs.monitor("W", f"{message.type} of host {message.host_id} is out of order and dropped")
            return False
        self._stamps[key] = message.epoch
        return True

    def _seen(self, host: Host, message: MonitorMessage) -> None:
        self._last_seen[host.id] = time.time()
        if not message.ok:
            self.host_error(host, message.text)

    def _started(self, host: Host, message: MonitorMessage) -> None:
        self._starting.pop(host.id, None)
        self._seen(host, message)
        if not message.ok or not message.text:
            return
        for part in ElementTree.fromstring(message.text):  # noqa: S314 - a driver's own answer, expat has no entities
            if part.tag != "TIMESTAMP":
                text = base64.b64decode(part.text or "").decode(errors="replace")
                self.handle(MonitorMessage(part.tag, True, host.id, message.epoch, text))

    def _take_host_monitoring(self, host: Host, message: MonitorMessage) -> None:
        self._starting.pop(host.id, None)
        self._seen(host, message)
        if message.ok:
            try:
                hosts.take_monitoring(host, templates.parse(message.text), message.epoch or int(time.time()))
            except templates.TemplateError as error:
                self.host_error(host, f"Error parsing monitor information: {error}")
            self._store.save(host)

    def _take_system(self, host: Host, message: MonitorMessage) -> None:
        if not message.ok:
            self.host_error(host, message.text)
            return
        hosts.take_system(host, templates.parse(message.text))
        self._store.save(host)

    def host_error(self, host: Host, text: str) -> None:
        """The host is in ERROR; its running VMs are UNKNOWN from now on."""
        if host.state in (HostState.DISABLED, HostState.OFFLINE):
            return
        host.state = HostState.ERROR
        host.template["ERROR"] = [f"{stamp(time.time())}: Error monitoring Host {host.name} ({host.id}): {text}"]
        self._last_seen[host.id] = time.time()
        self.forget_stamps(host.id)
        self._store.save(host)
        self._logs.oned("InM", "E", host.template["ERROR"][0] if isinstance(host.template["ERROR"][0], str) else "")
        for vm in list(self._store.vms.objects.values()):
            if vm.lcm_state is LcmState.RUNNING and monitor.belongs(vm, host.id):
                self._oned.apply(vm, lcm.active(LcmState.UNKNOWN))

    def _take_vm_monitoring(self, message: MonitorMessage) -> None:
        if not message.ok:
            return
        epoch = message.epoch or int(time.time())
        try:
            reported = monitor.vm_monitoring(message.text)
        except templates.TemplateError as error:
            if host := self._store.hosts.get(message.host_id):
                self.host_error(host, f"Error parsing monitor information: {error}")
            return
        for number, values in reported.items():
            if vm := self._store.vms.get(number):
                vm.monitoring |= values | {"ID": str(number), "TIMESTAMP": str(epoch)}
                vm.last_poll = epoch
                self._store.save(vm)

    def _take_states(self, host: Host, message: MonitorMessage) -> None:
        report = monitor.state_report(message.text)
        now = time.time()
        for entry in report.vms:
            vm = self._store.vms.get(entry.id)
            if vm is not None and monitor.belongs(vm, host.id):
                self._take_state(vm, entry, now)
        if report.missing:
            self._synchronise(host, report)

    def _take_state(self, vm: Vm, entry: monitor.VmReport, now: float) -> None:
        if entry.state == "RUNNING" and entry.deploy_id and entry.deploy_id != vm.deploy_id:
            vm.deploy_id = entry.deploy_id
            self._store.save(vm)
        if monitor.guarded(vm, now, self._settings.guard):
            self._logs.vm(vm.id, "VMM", "I", f"Ignoring VM state update: {entry.state}")
            return
        step = lcm.on_report(entry.state, vm.state, vm.lcm_state)
        if step is not None:
            found = step.lcm is LcmState.RUNNING and vm.state is not VmState.ACTIVE
            said = "VM found again by the drivers" if found else f"VM reported {entry.state} by the drivers"
            self._logs.vm(vm.id, "LCM", "I", said)
            self._oned.apply(vm, step)

    def _synchronise(self, host: Host, report: monitor.StateReport) -> None:
        listed = {entry.id for entry in report.vms}
        known = {vm.id for vm in hosts.on_host(self._store.vms.objects.values(), host.id)}
        for number in sorted(known - listed):
            vm = self._store.vms.objects[number]
            step = monitor.missing_step(vm, report.missing)
            if step is not None:
                self._logs.vm(vm.id, "LCM", "I", f"VM is not on its host any more, new state {report.missing}")
                self._oned.apply(vm, step)
        zombies = sorted(number for number in listed - known if number >= 0)
        for name in ("ZOMBIES", "TOTAL_ZOMBIES"):
            host.template.pop(name, None)
        if zombies:
            host.template["ZOMBIES"] = [", ".join(str(number) for number in zombies)]
            host.template["TOTAL_ZOMBIES"] = [str(len(zombies))]
        self._store.save(host)

    def _take_exec(self, message: MonitorMessage) -> None:
        for entry in vectors(templates.parse(message.text), "VM"):
            vm = self._store.vms.get(int(entry.get("ID", "-1")))
            for command in vectors(vm.template, "QEMU_GA_EXEC") if vm else []:
                command |= {key: text for key, text in entry.items() if key != "ID"}
            if vm:
                self._store.save(vm)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, monitord: Monitord) -> None:
        self._monitord = monitord

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        del addr  # the host id in the message is all that counts
        self._monitord.on_line(data.decode(errors="replace"))
