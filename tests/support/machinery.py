"""A whole controller in one process without sockets: real journal, queue and workers, node and oned in memory.

Built for virtual time: the journal is a real SQLite file, but written in the loop's own thread. A controller may
``crash`` and another may begin on the same file, with the same oned, node and driver.
"""

import asyncio
import base64
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from tests.support.fakes import FakeEngine, FakeNetworks
from tests.support.specs import IMAGE, NODE, VM
from tests.support.vm_xml import Values, parsed, vm_xml, vmm_line

from onedock.config.settings import ControllerSettings, NodeSettings, Settings
from onedock.controller.delivery import Delivery
from onedock.controller.documents import VmDocument
from onedock.controller.intake import Link, Links
from onedock.controller.intents import ScriptResult
from onedock.controller.journal import Job, Journal
from onedock.controller.metrics import Metrics
from onedock.controller.nodes import Node, Nodes
from onedock.controller.oned import Host, Oned
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry, VmRecord
from onedock.controller.reporter import Reporter
from onedock.controller.requests import Requests
from onedock.controller.resync import Resync
from onedock.controller.transfers import Transfers
from onedock.controller.worker import Worker
from onedock.nodeside.docker import DockerEngine
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError
from onedock.reconcilers.model import Container, NodeName, Phase, VmId, container_name
from onedock.reconcilers.runner import Runner

HOST_ID = 1
DONE = 6
ACTIVE = 3
BOOT, RUNNING, SHUTDOWN_POWEROFF, BOOT_POWEROFF = 2, 3, 18, 20


class InlineJournal(Journal):
    """The same file, written by the loop: threads know nothing of virtual time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection = self._connect()
        self.full = False
        """Whether the disk is."""

    async def _run(self, job: Job) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.full:
            raise TransientError("the journal cannot be written: database or disk is full")
        self._commit(self._connection, [(job, future)])
        return await future

    async def close(self) -> None:
        self._connection.close()


class FakeOned:
    """VMs as oned knows them; ``reachable`` and ``delay_s`` are how it answers."""

    def __init__(self) -> None:
        self._made: dict[VmId, dict[str, Any]] = {}
        self.image: Values = {}
        self.asked_for: list[tuple[VmId, str]] = []
        self.reachable = True
        self.delay_s = 0.0
        self.pool_hides: set[VmId] = set()
        """VMs that are newer than the pool document."""

    def set(self, vm: VmId = VM, **values: Any) -> None:
        """Make or change a VM; the values are those of ``vm_xml``."""
        self._made.setdefault(vm, {}).update(values)

    def remove(self, vm: VmId) -> None:
        """Forget a VM, as a database made anew would."""
        del self._made[vm]

    def xml(self, vm: VmId) -> str:
        """The VM's document now."""
        return vm_xml(vm, **self._made[vm])

    async def _answer(self) -> None:
        await asyncio.sleep(self.delay_s)
        if not self.reachable:
            raise TransientError("oned does not answer: fake")

    async def vm_xml(self, vm: VmId) -> str:
        await self._answer()
        if vm not in self._made:
            raise NotFoundError(f"no VM {vm}")
        return self.xml(vm)

    async def vm(self, vm: VmId) -> VmDocument:
        return parsed(await self.vm_xml(vm))

    async def vms(self) -> tuple[VmDocument, ...]:
        await self._answer()
        known = tuple(parsed(self.xml(vm)) for vm in self._made if vm not in self.pool_hides)
        return tuple(vm for vm in known if vm.state != DONE)

    async def hosts(self) -> tuple[Host, ...]:
        await self._answer()
        return (Host(HOST_ID, NODE, 2, "onedock"), Host(9, "kvm1", 2, "kvm"))

    async def image_attributes(self, image_id: int) -> Values:
        await self._answer()
        return self.image

    async def act(self, vm: VmId, action: str) -> None:
        await self._answer()
        self.asked_for.append((vm, action))


class RecordingLink(Link):
    """A driver that writes down what it gets, and confirms outcomes when told to."""

    def __init__(self, kind: str, session: str) -> None:
        self.kind = kind
        self.session = session
        self.since = 0.0
        self.messages: list[dict[str, Any]] = []
        self.alive = True

    def send(self, message: dict[str, Any]) -> None:
        if self.alive:
            self.messages.append(message)

    def close(self) -> None:
        self.alive = False

    @property
    def lines(self) -> list[str]:
        """What oned reads."""
        return [message["line"] for message in self.messages if "line" in message]

    @property
    def answers(self) -> list[str]:
        """The lines that answer something."""
        return [message["line"] for message in self.messages if message.get("outcome", -1) > 0]

    @property
    def acks(self) -> list[int]:
        """Numbers of the lines that are durable."""
        return [message["ack"] for message in self.messages if "ack" in message]

    @property
    def pushed(self) -> list[str]:
        """The texts of STATE_VM messages."""
        return [
            zlib.decompress(base64.b64decode(line.split()[4])).decode()
            for line in self.lines
            if line.startswith("STATE_VM SUCCESS") and len(line.split()) > 4
        ]


def said_of(text: str) -> dict[int, str]:
    """VM → state of one STATE_VM text."""
    return {int(vm): state for vm, state in re.findall(r'ID="(\d+)",DEPLOY_ID="[^"]*",STATE="(\w+)"', text)}


class OneNode:
    """``Nodes`` with one node."""

    def __init__(self, engine: FakeEngine, networks: FakeNetworks) -> None:
        runner = Runner(engine, networks, starts=4, on_action=lambda vm, action, seconds: None)
        self.node = Node(
            NODE, NodeSettings(), cast("DockerEngine", engine), cast("AgentClient", networks), runner, "onedock"
        )

    def __iter__(self) -> Iterator[Node]:
        return iter((self.node,))

    def find(self, name: NodeName) -> Node | None:
        return self.node if name == NODE else None

    async def get(self, name: NodeName) -> Node:
        if name != NODE:
            raise TerminalError(f"host {name!r} is no node of ONEDock")
        return self.node


class Engine(FakeEngine):
    """The fake engine with what resync asks besides, and starts that may be held up."""

    def __init__(self) -> None:
        super().__init__(registry=[IMAGE])
        self.free = asyncio.Event()
        self.free.set()

    async def pinned_images(self) -> tuple[str, ...]:
        return tuple(self.images)

    async def start(self, container: Any) -> None:
        await self.free.wait()
        await super().start(container)

    def of(self, vm: VmId = VM) -> Container | None:
        """The VM's container."""
        return next((c for c in self.containers.values() if c.name == container_name(vm)), None)

    def phase(self, vm: VmId = VM) -> Phase | None:
        """The phase of the VM's container."""
        container = self.of(vm)
        return container.phase if container else None


class Machinery:
    """One controller's parts, put together as ``app`` does."""

    def __init__(self, journal: InlineJournal, oned: FakeOned, engine: Engine, networks: FakeNetworks) -> None:
        self.settings = Settings(controller=ControllerSettings(resync_s=60.0, orphan_grace_s=300.0, deadline_s=300.0))
        self.journal, self.oned, self.engine, self.networks = journal, oned, engine, networks
        self.nodes = OneNode(engine, networks)
        self.links = Links()
        self.registry = Registry(journal)
        self.queue: KeyedQueue[VmId] = KeyedQueue(lambda failures: min(0.2 * 2**failures, 30.0))
        api, nodes, metrics = cast("Oned", oned), cast("Nodes", self.nodes), Metrics()
        self.delivery = Delivery(journal=journal, oned=api, links=self.links)
        self.reporter = Reporter(
            settings=self.settings.opennebula,
            registry=self.registry,
            links=self.links,
            oned=api,
            metrics=metrics,
            node_of=self.nodes.find,
            answering=self.delivery.waiting,
        )
        self.resync = Resync(
            settings=self.settings,
            registry=self.registry,
            journal=journal,
            nodes=nodes,
            oned=api,
            reporter=self.reporter,
            delivery=self.delivery,
            due=self.queue.add,
        )
        self.worker = Worker(
            settings=self.settings,
            queue=self.queue,
            registry=self.registry,
            journal=journal,
            nodes=nodes,
            oned=api,
            delivery=self.delivery,
            reporter=self.reporter,
            transfers=Transfers(nodes=nodes, registry=self.registry, remotes=Path("/nonexistent")),
            metrics=metrics,
            resync=self.resync.request,
        )
        self.requests = Requests(
            journal=journal,
            registry=self.registry,
            delivery=self.delivery,
            links=self.links,
            due=self.queue.add,
            cancel=self.worker.cancel,
            datastore=_no_datastore,
            im_line=_no_monitoring,
            resync=self.resync.request,
        )
        self.worker.on_script_done(self.requests.script_done)
        self._tasks: list[asyncio.Task[None]] = []

    async def restore(self) -> None:
        """Take over what the journal has."""
        contents = await self.journal.load()
        self.registry.restore(contents)
        self.delivery.restore(contents.outcomes)
        self.worker.restore(contents)
        for record in self.registry:
            self.queue.add(record.vm)

    def start(self, *names: str) -> None:
        """Start endless tasks: ``delivery``, ``reporter``, ``resync``, ``hinted``, ``worker``; ``all`` of them."""
        parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "delivery": self.delivery.run,
            "reporter": self.reporter.run,
            "resync": self.resync.run,
            "hinted": self.resync.run_hints,
            "worker": self.worker.run,
        }
        for name in parts if "all" in names else names:
            count = 2 if name == "worker" else 1
            self._tasks += [asyncio.create_task(parts[name](), name=name) for _ in range(count)]

    async def crash(self) -> None:
        """Everything in memory is gone."""
        for task in self._tasks:
            assert not task.done() or task.cancelled(), f"{task.get_name()} ended: {task}"
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.journal.close()

    def connect(self, kind: str = "vmm", session: str = "first") -> RecordingLink:
        """A driver says hello."""
        link = RecordingLink(kind, session)
        self.links.add(link)
        self.requests.linked(link)
        return link

    def disconnect(self, link: RecordingLink) -> None:
        """A driver dies."""
        link.alive = False
        self.links.remove(link)

    async def confirm(self, link: RecordingLink) -> None:
        """The driver wrote its outcomes to oned."""
        for message in link.messages:
            if message.get("outcome", -1) > 0:
                await self.requests.delivered(message["outcome"])

    async def send(self, link: RecordingLink, *lines: tuple[int, str]) -> None:
        """oned's lines with their numbers, taken at the same time as the intake does."""

        async def take(seq: int, line: str) -> None:
            await self.requests.vmm_line(link, seq, line, 0)
            link.send({"ack": seq})

        async with asyncio.TaskGroup() as tasks:
            for seq, line in lines:
                tasks.create_task(take(seq, line))

    async def ask(self, link: RecordingLink, seq: int, action: str, vm: VmId = VM, extra: str = "") -> None:
        """oned asks for something, with the VM's present document."""
        await self.send(link, (seq, vmm_line(action, self.oned.xml(vm), vm=vm, extra=extra)))

    async def deploy(self, link: RecordingLink, vm: VmId = VM, seq: int = 1) -> None:
        """A VM is deployed, its answer delivered, and oned has it running."""
        self.oned.set(vm, state=ACTIVE, lcm_state=BOOT, rstime=int(time.time()) - 1000)
        await self.ask(link, seq, "DEPLOY", vm)
        await self.until(lambda: any(line.split()[2] == str(vm) for line in link.answers))
        await self.confirm(link)
        self.oned.set(vm, lcm_state=RUNNING)

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for something to become true, in the loop's time."""
        step = 0.01
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(step)
                step = min(step * 1.2, 1.0)

    def record(self, vm: VmId = VM) -> VmRecord:
        """The VM's record."""
        return self.registry.record(vm)


async def _no_datastore(action: str, argv: Sequence[str], stdin: str) -> ScriptResult:
    return ScriptResult(0, stdout=action)


async def _no_monitoring(link: Link, line: str) -> None:
    pass


class World:
    """What outlives a controller: oned, the node, the journal's file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.sqlite"
        self.oned = FakeOned()
        self.engine = Engine()
        self.networks = FakeNetworks()

    @asynccontextmanager
    async def controller(self, *parts: str) -> AsyncIterator[Machinery]:
        """A controller that lives until the end of the block, and ends as by SIGKILL."""
        machinery = Machinery(InlineJournal(self.path), self.oned, self.engine, self.networks)
        await machinery.restore()
        machinery.start(*parts)
        try:
            yield machinery
        finally:
            await machinery.crash()
