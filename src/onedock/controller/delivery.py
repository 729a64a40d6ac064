"""Hands outcomes to oned, each once, over whichever VMM driver is connected, across the death of any process.

oned matches an answer to (action, VM's present state) and never asks twice (protocol reference 1.2, 1.1): an answer
that got lost leaves the VM hanging, one that comes twice may complete something else. So an outcome is handed over
without asking only on the very connection on which its request came, and only while it is oned's last word about the
VM; in every other case oned is asked first whether the VM still waits for it.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from onedock.controller.intake import Link, Links
from onedock.controller.intents import Intent, Outcome
from onedock.controller.journal import Journal
from onedock.controller.oned import Oned
from onedock.controller.verbs import still_waits
from onedock.controller.wire import vmm_answer
from onedock.reconcilers.errors import NotFoundError, OnedockError, TransientError
from onedock.reconcilers.model import VmId

log = structlog.get_logger(__name__)

RETRY_S = 1.0
HELD_S = 2.0
"""A driver that connects hands over what it holds within this time."""
SETTLE_S = 1.0
"""How long oned may take to act on an answer that a driver wrote just before it died."""


@dataclass(slots=True)
class _Parcel:
    intent: Intent
    outcome: Outcome
    sent_on: Link | None = None
    """The link it was written to and not yet confirmed on."""
    sent_at: float = 0.0
    """Loop time of that."""


class Delivery:
    """Outcomes on their way to oned."""

    def __init__(self, *, journal: Journal, oned: Oned, links: Links) -> None:
        self._journal = journal
        self._oned = oned
        self._links = links
        self._parcels: dict[int, _Parcel] = {}
        self._unsure: set[int] = set()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._parcels)

    def waiting(self, vm: VmId) -> bool:
        """Whether an answer for this VM is on its way."""
        return any(parcel.intent.vm == vm for parcel in self._parcels.values())

    def restore(self, outcomes: tuple[tuple[Intent, Outcome], ...]) -> None:
        """Outcomes of an earlier controller: any of them may have reached oned."""
        for intent, outcome in outcomes:
            self._parcels[outcome.intent_id] = _Parcel(intent, outcome)
            self._unsure.add(outcome.intent_id)
        self._wake.set()

    def add(self, intent: Intent, outcome: Outcome, *, followed: bool = False) -> None:
        """Deliver a new, durable outcome.

        ``followed``: oned has asked for something else of the VM since, so it may have given this request up.
        """
        if not outcome.answers:
            return
        parcel = _Parcel(intent, outcome)
        self._parcels[outcome.intent_id] = parcel
        link = self._links.current("vmm")
        if not followed and link is not None and intent.source.partition(":")[0] == link.session:
            self._send(parcel, link)
        else:
            self._unsure.add(outcome.intent_id)
            self._wake.set()

    def held(self, intent: Intent) -> bool:
        """Whether its driver may have held the request for as long as no controller listened."""
        link = self._links.current("vmm")
        return link is not None and intent.received - link.since < HELD_S

    def doubt(self, vm: VmId) -> None:
        """Oned cancelled what it asked for this VM: ask it before anything of that is sent again."""
        current = self._links.current("vmm")
        self._unsure.update(
            i for i, parcel in self._parcels.items() if parcel.intent.vm == vm and parcel.sent_on is not current
        )
        self._wake.set()

    def driver_connected(self, link: Link) -> None:
        """A driver connected: everything not confirmed may or may not have reached oned."""
        self._unsure.update(self._parcels)
        self._wake.set()

    async def delivered(self, outcome_id: int) -> None:
        """The driver wrote it to oned."""
        parcel = self._parcels.pop(outcome_id, None)
        self._unsure.discard(outcome_id)
        if parcel is not None:
            await self._settle(outcome_id, "delivered")

    async def _settle(self, outcome_id: int, fate: str) -> None:
        try:
            await self._journal.settle(outcome_id, fate=fate, time=time.time())
        except TransientError as error:
            # The next controller finds it unsettled and asks oned whether it is still wanted.
            log.warning("the fate of an outcome is not in the journal", outcome=outcome_id, fate=fate, error=str(error))

    def _send(self, parcel: _Parcel, link: Link) -> None:
        parcel.sent_on, parcel.sent_at = link, asyncio.get_running_loop().time()
        intent, outcome = parcel.intent, parcel.outcome
        line = vmm_answer(intent.action, outcome.ok, intent.vm if intent.vm is not None else -1, outcome.info)
        link.send({"outcome": outcome.intent_id, "line": line})
        log.info("outcome sent", vm=intent.vm, action=intent.action, intent_id=intent.id, ok=outcome.ok)

    async def run(self) -> None:
        """Check and deliver what is unsure, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for outcome_id in sorted(self._unsure):
                await self._resolve(outcome_id)
            if self._unsure and self._links.current("vmm") is not None:
                # oned did not answer, or may be acting on the answer just now: ask again soon.
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def _resolve(self, outcome_id: int) -> None:
        """Deliver one outcome if its VM still waits for it, else drop it with the reason."""
        parcel = self._parcels.get(outcome_id)
        if parcel is None or self._links.current("vmm") is None:
            return
        if parcel.sent_on is not None and asyncio.get_running_loop().time() - parcel.sent_at < SETTLE_S:
            return
        intent = parcel.intent
        try:
            reason = await self.why_not(intent)
        except OnedockError as error:
            log.warning("cannot ask oned whether an outcome is still wanted", vm=intent.vm, error=str(error))
            return
        if outcome_id not in self._parcels:
            return  # confirmed meanwhile
        link = self._links.current("vmm")
        if link is None:
            return  # the driver died meanwhile: asked again when the next one connects
        self._unsure.discard(outcome_id)
        if reason:
            del self._parcels[outcome_id]
            log.info("outcome dropped", vm=intent.vm, action=intent.action, intent_id=intent.id, reason=reason)
            await self._settle(outcome_id, f"dropped: {reason}")
        else:
            self._send(parcel, link)

    async def why_not(self, intent: Intent) -> str:
        """Why oned does not wait for an answer to this request any more; empty when it does.

        Raises:
            TransientError: oned does not answer.
        """
        if intent.vm is None or intent.lcm_state < 0:
            return "the request could not be read, so nothing waits for this answer any more"
        try:
            vm = await self._oned.vm(intent.vm)
        except NotFoundError:
            return "OpenNebula has no such VM"
        now = (vm.state, vm.lcm_state, vm.history.seq)
        return still_waits(intent.action, asked=(intent.lcm_state, intent.history_seq), now=now)
