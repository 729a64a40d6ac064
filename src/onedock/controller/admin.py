"""What an admin may do to a request of oned by hand. Each change is kept with the user who makes it, then made."""

import time

import structlog

from onedock.controller.intents import Intent, IntentState
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import Change, IntentRow
from onedock.controller.queue import KeyedQueue
from onedock.controller.registry import Registry
from onedock.controller.worker import Worker
from onedock.reconcilers.errors import NotFoundError, TerminalError
from onedock.reconcilers.model import VmId

log = structlog.get_logger(__name__)


class Admin:
    """Retries and drops open requests."""

    def __init__(self, *, journal: Journal, registry: Registry, queue: KeyedQueue[VmId], worker: Worker) -> None:
        self._journal = journal
        self._registry = registry
        self._queue = queue
        self._worker = worker

    async def find(self, intent_id: int) -> IntentRow:
        """One request. Raises NotFoundError."""
        rows = await self._journal.intents(intent_id=intent_id)
        if not rows:
            raise NotFoundError(f"there is no request {intent_id}; `onedock intents` lists them")
        return rows[0]

    async def retry(self, intent_id: int, user: str) -> None:
        """Try an open request now. Raises NotFoundError, or TerminalError: it is closed."""
        intent, vm = await self._open(intent_id)
        await self._journal.note_change(intent_id, Change("retry", user, time.time()))
        log.warning("request is tried now by hand", vm=vm, action=intent.action, intent_id=intent_id, user=user)
        self._queue.add(vm)

    async def drop(self, intent_id: int, user: str) -> None:
        """Let an open request fail; oned is told. Raises NotFoundError, or TerminalError: it is closed."""
        intent, vm = await self._open(intent_id)
        await self._journal.note_change(intent_id, Change("drop", user, time.time()))
        log.warning("request is dropped by hand", vm=vm, action=intent.action, intent_id=intent_id, user=user)
        await self._worker.drop(vm, intent_id, f"dropped by {user} with `onedock drop {intent_id}`")

    async def _open(self, intent_id: int) -> tuple[Intent, VmId]:
        for record in self._registry:
            for intent in record.intents:
                if intent.id == intent_id:
                    return intent, record.vm
        row = await self.find(intent_id)
        state = "was cancelled" if row.state is IntentState.CANCELLED else "is concluded"
        raise TerminalError(
            f"request {intent_id} ({row.action} of VM {row.vm}) {state}: only OpenNebula can ask again"
            f" (onevm recover --retry {row.vm})"
        )
