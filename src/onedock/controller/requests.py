"""What comes in from oned becomes durable intents, or is refused at once. The intake's handler.

Nothing is worked on here: an accepted intent makes its VM due in the queue. Lines that cannot be understood get the
clearest answer that the protocol allows, and are never executed in part.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from structlog.contextvars import bound_contextvars

from onedock.controller.delivery import Delivery
from onedock.controller.documents import parse_vmm_request
from onedock.controller.images.transfer import Monitor, Unknown, parse_transfer
from onedock.controller.intake import Link, Links
from onedock.controller.intents import Channel, Intent, NewIntent, Outcome, ScriptResult
from onedock.controller.journal import Journal
from onedock.controller.registry import Registry
from onedock.controller.verbs import KNOWN, SILENT, first_word, refusal
from onedock.controller.wire import PayloadError, WireError, parse_vmm_line, vmm_log
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError
from onedock.reconcilers.model import NodeName, VmId

log = structlog.get_logger(__name__)


class Requests:
    """Implements ``intake.Handler``.

    Args:
        due: makes a VM due for a pass.
        cancel: stops the pass of a VM, if one is running.
        datastore: does a datastore action; these belong to no VM.
        im_line: takes the lines of the IM driver.
        resync: asks for a comparison with oned soon.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        registry: Registry,
        delivery: Delivery,
        links: Links,
        due: Callable[[VmId], None],
        cancel: Callable[[VmId], Awaitable[None]],
        datastore: Callable[[str, Sequence[str], str], Awaitable[ScriptResult]],
        im_line: Callable[[Link, str], Awaitable[None]],
        resync: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._registry = registry
        self._delivery = delivery
        self._links = links
        self._due = due
        self._cancel = cancel
        self._datastore = datastore
        self._im_line = im_line
        self._resync = resync
        self._waiting: dict[int, list[asyncio.Future[ScriptResult]]] = {}

    def linked(self, link: Link) -> None:
        """A driver connected: what oned may not have got is checked and handed to it.

        Requests and answers that were in the pipes when the driver or oned died are found by comparing.
        """
        if link.kind == "vmm":
            self._delivery.driver_connected(link)
        self._resync()

    async def delivered(self, outcome: int) -> None:
        """A driver wrote an outcome to oned."""
        await self._delivery.delivered(outcome)

    async def im_line(self, link: Link, seq: int, line: str, oversized: int) -> None:
        """A line of monitord. Monitoring needs no journal: monitord asks again."""
        if oversized:
            log.error("a line of monitord is too long and was ignored", bytes=oversized)
            return
        await self._im_line(link, line)

    async def vmm_line(self, link: Link, seq: int, line: str, oversized: int) -> None:
        """A line of oned: returns when the intent is durable."""
        source = f"{link.session}:{seq}"
        try:
            request = parse_vmm_line(line)
        except PayloadError as error:
            await self._refuse(_bare(source, error.action, VmId(error.object_id)), str(error))
            return
        except WireError as error:
            log.error("a line of oned cannot be understood", error=str(error), line=line[:80])
            link.push(vmm_log("E", -1, f"ONEDock: {error}"))
            return
        vm = VmId(request.vm)
        with bound_contextvars(vm=vm):
            if request.action == "DRIVER_CANCEL":
                await self._drop_open_intents(vm, link.session, seq)
            elif oversized:
                problem = f"the request has {oversized} bytes; at most 32 MiB work; shorten the VM's template"
                await self._refuse(_bare(source, request.action, vm), problem)
            else:
                await self._take(source, request.action, vm, request.payload)

    async def _take(self, source: str, action: str, vm: VmId, xml: str) -> None:
        if action not in KNOWN:
            await self._refuse(
                _bare(source, action, vm), f"ONEDock knows no action {action[:40]}; the VM was not touched"
            )
            return
        try:
            document = parse_vmm_request(xml, vm)
        except OnedockError as error:
            await self._refuse(_bare(source, action, vm), str(error))
            return
        new = NewIntent(
            source=source,
            channel=Channel.VMM,
            action=action,
            vm=vm,
            node=document.host,
            payload=xml,
            received=time.time(),
            lcm_state=document.vm.lcm_state,
            history_seq=document.vm.history.seq,
        )
        if problem := refusal(action, document.vm.lcm_state):
            await self._refuse(new, problem)
            return
        await self._accept(new)

    async def _accept(self, new: NewIntent) -> Intent | None:
        intent = await self._journal.accept(new)
        if intent is None:
            log.info("request was accepted before", source=new.source, action=new.action)
            return None
        assert intent.vm is not None
        log.info("request accepted", vm=intent.vm, node=intent.node, action=intent.action, intent_id=intent.id)
        self._registry.record(intent.vm).intents.append(intent)
        self._due(intent.vm)
        return intent

    async def _refuse(self, new: NewIntent, problem: str) -> None:
        """Journal a request together with its failure, and answer."""
        text = first_word(new.action) + problem
        refused = await self._journal.refuse(new, text, answers=new.action not in SILENT)
        if refused is None:
            return
        intent, outcome = refused
        log.warning("request refused", action=new.action, intent_id=intent.id, error=problem)
        self._delivery.add(intent, outcome)

    async def _drop_open_intents(self, vm: VmId, session: str, seq: int) -> None:
        """DRIVER_CANCEL: whatever runs for this VM is stopped and its result never sent (protocol reference 1.4).

        Only what oned asked before is dropped: the lines of a burst are taken at the same time, and a cancel may come
        again after the request that follows it was accepted. That request must not fall with it.
        """
        await self._journal.barrier()  # what was asked before is in the record now
        record = self._registry.record(vm)
        asked_before = [intent for intent in record.intents if not _is_later(intent, session, seq)]
        await self._cancel(vm)
        self._delivery.doubt(vm)
        # Without an await up to here and all at once: the next pass must not find one of them.
        doomed = [intent for intent in asked_before if intent in record.intents]
        for intent in doomed:
            record.intents.remove(intent)
        try:
            for intent in doomed:
                await self._journal.conclude(intent, None)
        except TransientError:
            record.intents.extendleft(reversed(doomed))  # the cancel is not acknowledged and comes again
            raise
        for intent in doomed:
            log.info("request cancelled", action=intent.action, intent_id=intent.id)
            self.script_done(intent, Outcome(intent.id, ok=False, info="cancelled by OpenNebula", created=time.time()))
        if record.intents:
            self._due(vm)

    async def script(
        self, channel: Channel, request: str, action: str, argv: Sequence[str], stdin: str
    ) -> ScriptResult:
        """A TM or datastore script: returns with its result, however often it asks with the same request id."""
        if channel is Channel.DATASTORE:
            with bound_contextvars(request=request, action=action):
                return await self._datastore(action, argv, stdin)
        try:
            transfer = parse_transfer(action, argv)
        except TerminalError as error:
            return ScriptResult(1, stderr=f"{error}\n")
        if isinstance(transfer, Monitor):
            return await self._datastore("monitor", argv, stdin)
        if isinstance(transfer, Unknown):
            return ScriptResult(1, stderr=f"not supported yet: ONEDock has no transfer action {action[:40]}\n")
        new = NewIntent(
            source=request,
            channel=channel,
            action=action,
            vm=transfer.vm,
            node=NodeName(""),
            payload=json.dumps({"argv": list(argv), "stdin": stdin}),
            received=time.time(),
        )
        intent = await self._accept(new)
        if intent is None:
            intent = next(
                (open_ for open_ in self._registry.record(transfer.vm).intents if open_.source == request),
                None,
            )
        if intent is None:
            outcome = await self._journal.outcome_of(request)
            return _result(outcome) if outcome else ScriptResult(1, stderr="the request was cancelled by OpenNebula\n")
        future: asyncio.Future[ScriptResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(intent.id, []).append(future)
        return await future

    def script_done(self, intent: Intent, outcome: Outcome) -> None:
        """Hand the outcome of a TM intent to the scripts that wait for it."""
        for future in self._waiting.pop(intent.id, []):
            if not future.done():
                future.set_result(_result(outcome))


def _is_later(intent: Intent, session: str, seq: int) -> bool:
    """Whether oned wrote this request after line ``seq`` of this session."""
    prefix, _, number = intent.source.rpartition(":")
    return prefix == session and number.isdecimal() and int(number) > seq


def _bare(source: str, action: str, vm: VmId) -> NewIntent:
    """An intent of which only the line's first words are understood."""
    return NewIntent(source, Channel.VMM, action[:40], vm, NodeName(""), "", time.time())


def _result(outcome: Outcome) -> ScriptResult:
    return ScriptResult(0, stdout=outcome.info) if outcome.ok else ScriptResult(1, stderr=f"{outcome.info}\n")
