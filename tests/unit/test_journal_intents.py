"""Requests as an admin lists them: what was asked, and what became of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onedock.controller.intents import Channel, Intent, IntentState, NewIntent, Outcome
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import LogLine
from onedock.reconcilers.model import NodeName, VmId

VM, OTHER = VmId(25003), VmId(25004)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "journal.sqlite")
    yield opened
    await opened.close()


async def accepted(journal: Journal, source: str, vm: VmId = VM, action: str = "DEPLOY") -> Intent:
    new = NewIntent(source, Channel.VMM, action, vm, NodeName("node1"), "<xml/>", received=float(len(source)))
    intent = await journal.accept(new)
    assert intent is not None
    return intent


async def test_an_answer_is_listed_without_the_id_that_only_oned_needs(journal: Journal) -> None:
    for action, info, said in (
        ("UPDATESG", "105 why not", "why not"),
        ("UPDATENIC", "7 -", "-"),
        ("DEPLOY", "a b", "a b"),
    ):
        intent = await accepted(journal, action, action=action)
        await journal.conclude(intent, Outcome(intent.id, ok=False, info=info, created=5.0))
        assert [row.info for row in await journal.intents(intent_id=intent.id)] == [said]


async def test_a_request_is_listed_with_its_fate(journal: Journal) -> None:
    still_open = await accepted(journal, "1")
    delivered = await accepted(journal, "22")
    await journal.conclude(delivered, Outcome(delivered.id, ok=True, info="one-25003", created=5.0))
    await journal.settle(delivered.id, fate="delivered", time=6.0)
    waiting = await accepted(journal, "333", OTHER)
    await journal.conclude(waiting, Outcome(waiting.id, ok=False, info="why", created=7.0))
    cancelled = await accepted(journal, "4444")
    await journal.conclude(cancelled, None)

    rows = await journal.intents()
    assert [row.id for row in rows] == [still_open.id, delivered.id, waiting.id, cancelled.id]
    assert [(row.state, row.ok, row.info, row.fate) for row in rows] == [
        (IntentState.OPEN, None, "", None),
        (IntentState.DONE, True, "one-25003", "delivered"),
        (IntentState.DONE, False, "why", None),
        (IntentState.CANCELLED, None, "", None),
    ]
    assert [row.id for row in await journal.intents(pending=True)] == [still_open.id, waiting.id]
    assert [row.id for row in await journal.intents(vm=OTHER)] == [waiting.id]
    assert [row.id for row in await journal.intents(intent_id=cancelled.id)] == [cancelled.id]
    assert [row.id for row in await journal.intents(limit=2)] == [waiting.id, cancelled.id]
    assert await journal.intents(intent_id=99) == ()


async def test_the_log_is_read_by_time_and_level(journal: Journal) -> None:
    lines = [
        LogLine(VM, float(n), level, f"line {n}", {}) for n, level in enumerate(("info", "warning", "info", "error"))
    ]
    await journal.write_log(lines)
    assert [line.event for line in await journal.read_log(VM, since=2.0)] == ["line 2", "line 3"]
    assert [line.event for line in await journal.read_log(VM, levels=("warning", "error"))] == ["line 1", "line 3"]
    assert [line.event for line in await journal.read_log(VM, levels=("warning", "error"), limit=1)] == ["line 3"]


async def test_a_journal_that_can_be_written_has_no_error(journal: Journal) -> None:
    await accepted(journal, "1")
    assert journal.error == ""
