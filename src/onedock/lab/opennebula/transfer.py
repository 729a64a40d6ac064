"""The command lines of the transfer manager (protocol reference 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass

from onedock.lab.opennebula.objects import History, Vm
from onedock.lab.opennebula.templates import Vector, vectors


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are: VAR directory, datastore location (with its double slash) and the front-end's name."""

    var: str
    datastores: str
    frontend: str

    def vm_directory(self, vm_id: int) -> str:
        """Directory of a VM on the front-end."""
        return f"{self.var}/vms/{vm_id}"

    def system_directory(self, record: History, vm_id: int) -> str:
        """Directory of a VM in its system datastore."""
        return f"{self.datastores}/{record.ds_id}/{vm_id}"


class Lines:
    """Builds the lines for one VM as it is now."""

    def __init__(self, vm: Vm, places: Places) -> None:
        self.vm = vm
        self.places = places
        self.record = vm.record
        self.system_directory = places.system_directory(self.record, vm.id)

    def _disks(self) -> list[Vector]:
        return vectors(self.vm.template, "DISK")

    def disk_path(self, disk: Vector) -> str:
        """Path of a disk on its host."""
        return f"{self.system_directory}/disk.{disk['DISK_ID']}"

    def _owner(self, disk: Vector) -> tuple[str, str]:
        """Transfer driver and datastore id that a disk belongs to."""
        if "IMAGE_ID" in disk:
            return disk["TM_MAD"], disk["DATASTORE_ID"]
        return self.record.tm_mad, str(self.record.ds_id)

    def _suffix(self, disk: Vector) -> str:
        return f".{disk['TM_MAD_SYSTEM']}" if "TM_MAD_SYSTEM" in disk else ""

    def _on(self, host: str, disk: Vector) -> str:
        return f"{host}:{self.disk_path(disk)}"

    def prolog_line(self, disk: Vector) -> str:
        """What creates the disk."""
        here = self._on(self.record.hostname, disk)
        mad, datastore = self._owner(disk)
        tail = f"{here} {self.vm.id} {datastore}\n"
        if "IMAGE_ID" in disk:
            verb = "CLONE" if disk.get("CLONE") == "YES" else "LN"
            source = disk["SOURCE"]
            # a source with a colon is no path of the front-end
            source = source if ":" in source else f"{self.places.frontend}:{source}"
            return f"{verb}{self._suffix(disk)} {mad} {source} {tail}"
        if disk.get("TYPE", "").lower() == "swap":
            return f"MKSWAP {mad} {disk['SIZE']} {tail}"
        return f"MKIMAGE {mad} {disk['SIZE']} {disk.get('FORMAT', 'raw')} {tail}"

    def delete_line(self, disk: Vector, host: str = "") -> str:
        """What removes the disk."""
        mad, datastore = self._owner(disk)
        where = self._on(host or self.record.hostname, disk)
        return f"DELETE{self._suffix(disk)} {mad} {where} {self.vm.id} {datastore}\n"

    def epilog_line(self, disk: Vector, host: str = "") -> str:
        """What saves or removes the disk."""
        if disk.get("SAVE") != "YES":
            return self.delete_line(disk, host)
        mad, datastore = self._owner(disk)
        where = self._on(host or self.record.hostname, disk)
        return f"MVDS{self._suffix(disk)} {mad} {where} {disk['SOURCE']} {self.vm.id} {datastore}\n"

    def _directory_line(self, verb: str, *hosts: str) -> str:
        paths = " ".join(f"{host}:{self.system_directory}" for host in hosts)
        return f"{verb} {self.record.tm_mad} {paths} {self.vm.id} {self.record.ds_id}\n"

    def _moves(self, source: str, destination: str) -> str:
        lines = ""
        for disk in self._disks():
            mad, datastore = self._owner(disk)
            paths = f"{self._on(source, disk)} {self._on(destination, disk)}"
            lines += f"MV{self._suffix(disk)} {mad} {paths} {self.vm.id} {datastore}\n"
        return lines + self._directory_line("MV", source, destination)

    def prolog(self) -> str:
        """All disks of a new VM."""
        return "".join(self.prolog_line(disk) for disk in self._disks())

    def epilog(self, host: str = "") -> str:
        """All disks and the directory of a VM that ends."""
        lines = "".join(self.epilog_line(disk, host) for disk in self._disks())
        return lines + self._directory_line("DELETE", host or self.record.hostname)

    def delete(self, host: str = "") -> str:
        """All disks and the directory of a VM that is thrown away."""
        lines = "".join(self.delete_line(disk, host) for disk in self._disks())
        return lines + self._directory_line("DELETE", host or self.record.hostname)

    def stop(self) -> str:
        """From the host to the front-end."""
        return self._moves(self.record.hostname, self.places.frontend)

    def resume(self) -> str:
        """From the front-end to the host."""
        return self._moves(self.places.frontend, self.record.hostname)

    def migrate(self) -> str:
        """From the previous host to the current one."""
        return self._moves(self.vm.history[-2].hostname, self.record.hostname)

    def context(self) -> tuple[str, str]:
        """The CONTEXT line and the path of the context disk; both "" for a VM without CONTEXT."""
        contexts = vectors(self.vm.template, "CONTEXT")
        if not contexts:
            return "", ""
        path = f"{self.system_directory}/disk.{contexts[0]['DISK_ID']}"
        file = f"{self.places.vm_directory(self.vm.id)}/context.sh"
        tail = f"{self.record.hostname}:{path} {self.vm.id} {self.record.ds_id}\n"
        return f"CONTEXT {self.record.tm_mad} {file} {tail}", path

    def on_disk(self, verb: str, disk: Vector, *words: str) -> str:
        """``verb`` on one disk of the current host, with words between path and ids."""
        mad, datastore = self._owner(disk)
        where = self._on(self.record.hostname, disk)
        return " ".join([f"{verb}{self._suffix(disk)}", mad, where, *words, str(self.vm.id), datastore]) + "\n"

    def marked_disk(self, flag: str) -> Vector:
        """The disk that the operation under way is about."""
        return next(disk for disk in self._disks() if disk.get(flag) == "YES")

    def _snapshot(self) -> str:
        disk = self.marked_disk("DISK_SNAPSHOT_ACTIVE")
        verb = {"REVERT": "SNAP_REVERT", "DELETE": "SNAP_DELETE"}
        name = next((v for key, v in verb.items() if key in self.vm.lcm_state.name), "SNAP_CREATE")
        return self.on_disk(name, disk, disk["DISK_SNAPSHOT_ID"])

    def _resize(self) -> str:
        disk = self.marked_disk("RESIZE")
        return self.on_disk("RESIZE", disk, disk["SIZE"])

    def _saveas(self) -> str:
        disk = next(disk for disk in self._disks() if disk["DISK_ID"] == self.vm.saveas["DISK_ID"])
        return self.on_disk("CPDS", disk, self.vm.saveas["SOURCE"], self.vm.saveas["SNAPSHOT_ID"])

    def script(self, name: str) -> str:
        """Text of the transfer script with that suffix."""
        makers: dict[str, Callable[[], str]] = {
            "prolog": self.prolog,
            "resume": self.resume,
            "migrate": self.migrate,
            "stop": self.stop,
            "epilog": self.epilog,
            "epilog_stopped": lambda: self.epilog(self.places.frontend),
            "delete": self.delete,
            "delete_stopped": lambda: self.delete(self.places.frontend),
            "delete_both": lambda: self.delete() + self.delete(self.vm.history[-2].hostname),
            "prolog_attach": lambda: self.prolog_line(self.marked_disk("ATTACH")),
            "epilog_detach": lambda: self.epilog_line(self.marked_disk("ATTACH")),
            "disk_snapshot": self._snapshot,
            "disk_resize": self._resize,
            "disk_saveas": self._saveas,
        }
        return makers[name]()
