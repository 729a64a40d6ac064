"""The image manager: images and datastores, and the datastore driver that makes them (protocol reference 4)."""

import asyncio
import base64
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from onedock.lab.opennebula import documents, templates
from onedock.lab.opennebula.logs import Logs, stamp
from onedock.lab.opennebula.objects import Datastore, Image, Vm
from onedock.lab.opennebula.scripts import Outcome, Scripts
from onedock.lab.opennebula.states import ImageState, ImageType
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Template, get

STAT_SECONDS = 90
SYSTEM_DATASTORE = 1
_OWN = ("NAME", "PATH", "TYPE", "PERSISTENT", "SIZE", "FS", "FORMAT", "DRIVER", "SOURCE")
_PREFIX: Template = {"DEV_PREFIX": ["sd"]}
_IMAGE_MAD: Template = {"CLONE_TARGET": ["SYSTEM"], "LN_TARGET": ["NONE"]}
_SYSTEM_MAD: Template = {"DS_LIVE_MIGRATE": ["NO"], "DS_MIGRATE": ["YES"], "DS_MIGRATE_SNAP": ["NO"], "SHARED": ["YES"]}
_ALL_MAD: Template = {
    "ALLOW_ORPHANS": ["YES"],
    "DISK_TYPE": ["FILE"],
    "PERSISTENT_SNAPSHOTS": ["YES"],
    "RESTRICTED_DIRS": ["/"],
    "SAFE_DIRS": ["/var/tmp"],  # noqa: S108 - OpenNebula's default, nothing is written there
}
"""TM_MAD_CONF of ONEDock, which a datastore copies when it is made."""


class ImageError(Exception):
    """The call fails; the message is what oned answers."""


@dataclass(slots=True)
class Images:
    """Datastores and their images.

    Attributes:
        store: The pools.
        scripts: Runs the drivers.
        logs: Log files.
        datastore_location: DATASTORE_LOCATION, double slash included.
    """

    store: Store
    scripts: Scripts
    logs: Logs
    datastore_location: str
    _requests: "itertools.count[int]" = field(default_factory=itertools.count)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def allocate_datastore(self, template: Template) -> Datastore:
        """``one.datastore.allocate``.

        Raises:
            ImageError: NAME, DS_MAD or TM_MAD is missing.
        """
        system = get(template, "TYPE").upper() == "SYSTEM_DS"
        for required in ("NAME", "TM_MAD") if system else ("NAME", "DS_MAD", "TM_MAD"):
            if not get(template, required):
                raise ImageError(f"No {required} in template.")
        number = self.store.new_id(self.store.datastores)
        kept = {key: values for key, values in template.items() if key != "NAME"}
        item = Datastore(
            id=number,
            name=get(template, "NAME"),
            type=SYSTEM_DATASTORE if system else 0,
            ds_mad="-" if system else get(template, "DS_MAD"),
            tm_mad=get(template, "TM_MAD"),
            base_path=f"{self.datastore_location}/{number}",
            template=_ALL_MAD | (_SYSTEM_MAD if system else _IMAGE_MAD) | kept,
        )
        self.store.save(item)
        self._background(self.monitor(item, disks=1))
        return item

    async def allocate(self, template: Template, datastore: Datastore, *, check_capacity: bool) -> Image:
        """``one.image.allocate``: asks for the size of a PATH, then has the image made in the background.

        Args:
            template: Attributes of the image.
            datastore: An image datastore.
            check_capacity: False skips the comparison with the free space.

        Raises:
            ImageError: An attribute is missing, the size is not to be had or too large.
        """
        path, source, size = get(template, "PATH"), get(template, "SOURCE"), get(template, "SIZE")
        if not get(template, "NAME"):
            raise ImageError("NAME not found in template")
        if any(image.name == get(template, "NAME") for image in self.store.images.objects.values()):
            raise ImageError(f"NAME is already taken by IMAGE {get(template, 'NAME')}.")
        if path:
            size = await self._stat(path, size, datastore)
        if not size.isdigit():
            raise ImageError("SIZE in MB is needed for an image without PATH")
        if check_capacity and int(size) > datastore.free_mb:
            raise ImageError("Not enough space in datastore")
        image = self._new(template, datastore, int(size))
        if source:
            image.source, image.format, image.state = source, get(template, "FORMAT"), ImageState.READY
            self._settle_image(image)
            return image
        payload = self._payload(image, datastore)
        self._register(image, datastore)
        self._background(self._make("cp" if path else "mkfs", image, datastore, payload))
        return image

    async def _stat(self, path: str, size: str, datastore: Datastore) -> str:
        given = documents.element("SIZE", size) if size else ""
        xml = (
            f"<DS_DRIVER_ACTION_DATA><IMAGE>{documents.element('PATH', path)}{given}</IMAGE>"
            f"{documents.datastore(datastore)}</DS_DRIVER_ACTION_DATA>"
        )
        try:
            async with asyncio.timeout(STAT_SECONDS):
                outcome = await self._run("stat", next(self._requests), datastore, xml)
        except TimeoutError:
            raise ImageError("Cannot parse image SIZE: driver timeout") from None
        if not outcome.ok or not outcome.info.strip().isdigit():
            raise ImageError(f"Cannot parse image SIZE: {outcome.info.strip()}")
        return outcome.info.strip()

    def _new(self, template: Template, datastore: Datastore, size: int) -> Image:
        now = int(time.time())
        kind = get(template, "TYPE", "OS").upper()
        path = get(template, "PATH")
        return Image(
            id=self.store.new_id(self.store.images),
            name=get(template, "NAME"),
            type=ImageType[kind] if kind in ImageType.__members__ else ImageType.OS,
            persistent=get(template, "PERSISTENT").upper() == "YES",
            datastore_id=datastore.id,
            datastore=datastore.name,
            template=_PREFIX | {key: value for key, value in template.items() if key not in _OWN},
            regtime=now,
            modtime=now,
            path=path,
            format=get(template, "FORMAT") or ("" if path else "raw"),
            fs=get(template, "FS"),
            size=size,
        )

    def _register(self, image: Image, datastore: Datastore) -> None:
        self.store.save(image)
        datastore.images.append(image.id)
        self.store.save(datastore)

    def _payload(self, image: Image, datastore: Datastore) -> str:
        return (
            f"<DS_DRIVER_ACTION_DATA>{documents.image(image)}{documents.datastore(datastore)}</DS_DRIVER_ACTION_DATA>"
        )

    async def _run(self, action: str, number: int, datastore: Datastore, xml: str) -> Outcome:
        stdin = base64.b64encode(xml.encode()).decode()
        outcome = await self.scripts.datastore(datastore.ds_mad, action, number, stdin)
        for level, text in outcome.log:
            self.logs.oned("ImM", level, text)
        return outcome

    async def _make(self, action: str, image: Image, datastore: Datastore, payload: str) -> None:
        outcome = await self._run(action, image.id, datastore, payload)
        self._made(action, image, outcome)
        await self.monitor(datastore)

    def _made(self, action: str, image: Image, outcome: Outcome) -> None:
        words = outcome.info.split()
        needed = {"cp": 2, "clone": 1, "mkfs": 1}[action]
        if outcome.ok and len(words) >= needed:
            if action == "mkfs":
                image.source = outcome.info.strip()
            else:
                image.source = words[0]
                image.format = words[1] if len(words) > 1 else image.format
            image.state = ImageState.READY
        else:
            image.state = ImageState.ERROR
            what = {"cp": "copying image in the", "clone": "cloning in the", "mkfs": "creating"}[action]
            text = f"{stamp(time.time())}: Error {what} datastore: {outcome.info.strip()}"
            image.template["ERROR"] = [text]
            self.logs.oned("ImM", "E", text)
        image.cloning_id = -1
        self._settle_image(image)

    def _settle_image(self, image: Image) -> None:
        image.prev_state = image.state
        self.store.save(image)

    def clone(self, source: Image, name: str) -> Image:
        """``one.image.clone`` within its datastore.

        Raises:
            ImageError: The image is not READY or USED.
        """
        if source.state not in (ImageState.READY, ImageState.USED):
            raise ImageError(f"Cannot clone image in state {source.state.name}")
        datastore = self.store.datastores.objects[source.datastore_id]
        named: Template = {"NAME": [name]}
        image = self._new(named | source.template, datastore, source.size)
        image.type, image.path, image.format = source.type, source.source, source.format
        image.cloning_id = source.id
        payload = self._payload(image, datastore)
        self._register(image, datastore)
        self._background(self._make("clone", image, datastore, payload))
        return image

    def save_as(self, vm: Vm, disk: templates.Vector, name: str, made: Callable[[Image, bool], None]) -> Image:
        """The empty image that a disk is to be saved in; ``made`` is told whether the driver could make it."""
        origin = self.store.images.get(int(disk.get("IMAGE_ID", "-1")))
        datastore = self.store.datastores.objects[origin.datastore_id if origin else vm.record.ds_id]
        template: Template = {
            "NAME": [name],
            "SAVED_DISK_ID": [disk["DISK_ID"]],
            "SAVED_IMAGE_ID": [disk.get("IMAGE_ID", "-1")],
            "SAVED_VM_ID": [str(vm.id)],
            "SAVE_AS_HOT": ["YES"],
        }
        image = self._new(template, datastore, int(disk["SIZE"]))
        image.format = "save_as"
        payload = self._payload(image, datastore)
        del image.template["SAVE_AS_HOT"]
        self._register(image, datastore)

        async def make() -> None:
            outcome = await self._run("mkfs", image.id, datastore, payload)
            image.source = outcome.info.strip() if outcome.ok else ""
            self.store.save(image)
            made(image, outcome.ok)

        self._background(make())
        return image

    def saved(self, image: Image, ok: bool) -> None:
        """The disk was copied into the image, or could not be."""
        image.format = "raw"
        image.state = ImageState.READY if ok else ImageState.ERROR
        self._settle_image(image)
        self._background(self.monitor(self.store.datastores.objects[image.datastore_id]))

    def delete(self, image: Image) -> None:
        """``one.image.delete``.

        Raises:
            ImageError: A VM uses it.
        """
        if image.vms:
            raise ImageError("Cannot delete image, it is being used by VMs")
        datastore = self.store.datastores.objects[image.datastore_id]
        payload = self._payload(image, datastore)
        image.state = ImageState.DELETE
        self.store.save(image)

        async def remove() -> None:
            outcome = await self._run("rm", image.id, datastore, payload)
            if outcome.ok:
                datastore.images.remove(image.id)
                self.store.save(datastore)
                self.store.delete(image)
            else:
                image.state = ImageState.ERROR
                image.template["ERROR"] = [f"{stamp(time.time())}: {outcome.info.strip()}"]
                self._settle_image(image)
            await self.monitor(datastore)

        self._background(remove())

    async def monitor(self, datastore: Datastore, *, disks: int = 0) -> None:
        """Asks the driver for the space of a datastore; ``disks`` is MONITOR_VM_DISKS for a system datastore."""
        inner = documents.datastore(datastore)
        if datastore.type == SYSTEM_DATASTORE:
            location = documents.elements(DATASTORE_LOCATION=self.datastore_location, MONITOR_VM_DISKS=disks)
            xml = f"<DS_DRIVER_ACTION_DATA>{inner}{location}</DS_DRIVER_ACTION_DATA>"
            stdin = base64.b64encode(xml.encode()).decode()
            outcome = await self.scripts.tm(datastore.tm_mad, "monitor", [str(datastore.id)], stdin)
        else:
            outcome = await self._run(
                "monitor", datastore.id, datastore, f"<DS_DRIVER_ACTION_DATA>{inner}</DS_DRIVER_ACTION_DATA>"
            )
        try:
            space = templates.parse(outcome.info if outcome.ok else "")
        except templates.TemplateError as error:
            self.logs.oned("ImM", "E", f"Error monitoring datastore {datastore.id}: {error}")
            return
        for name in ("total_mb", "free_mb", "used_mb"):
            if text := get(space, name.upper()):
                setattr(datastore, name, int(float(text)))
        self.store.save(datastore)

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Forgets what is under way, as a oned that ends does."""
        for task in self._tasks:
            task.cancel()
