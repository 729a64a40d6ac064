"""The journal on a real SQLite file: nothing accepted is lost, and one bad write harms nothing else."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from onedock.controller.intents import Channel, Intent, NewIntent, Outcome
from onedock.controller.journal import Journal
from onedock.controller.journal_rows import SCHEMA_VERSION, Contents, LogLine
from onedock.controller.registry import Registry
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Condition, ContainerSpec, Desired, Network, Nic, NodeName, Power, VmId, VmSpec

VM = VmId(25002)
EMPTY = Contents((), (), (), ())
FULL_SPEC = VmSpec(
    vm=VM,
    name="wéb 🐳 'quoted'\n",
    node=NodeName("node1"),
    instance="25002-1000",
    container=ContainerSpec(
        image="127.0.0.1:5000/onedock/image-7@sha256:aa",
        hostname="web",
        command=("sh", "-c", "echo $HOME"),
        entrypoint=(),
        environment=(("A", "1\n2"), ("B", "")),
        working_dir="/srv",
        user="www",
        dns=("9.9.9.9",),
        search=("example",),
        hosts=(("web", "10.0.0.10"),),
        cpu_shares=512,
        cpu_quota_us=50_000,
        memory_bytes=64 << 20,
        pids=100,
    ),
    network=Network(
        VM,
        (Nic(3, "eth0", "one-25002-3", "02:00:00:00:00:01", "br0", ("10.0.0.10/24",), ("10.0.0.1",), 1400, "eth9"),),
    ),
    notes=("something was left out",),
)


def request(
    source: str = "session:1", *, vm: VmId | None = VM, action: str = "DEPLOY", received: float = 100.0
) -> NewIntent:
    return NewIntent(source, Channel.VMM, action, vm, NodeName("node1"), "<xml>é\n</xml>", received, 2, 5)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path / "state" / "journal.sqlite")
    yield opened
    await opened.close()


async def accepted(journal: Journal, new: NewIntent) -> Intent:
    intent = await journal.accept(new)
    assert intent is not None
    return intent


async def after_a_crash(journal: Journal, tmp_path: Path) -> Contents:
    """What a controller finds that starts now, on a copy of the files as a power cut would leave them."""
    target = tmp_path / "crashed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(tmp_path / "state", target)
    second = await Journal.open(target / "journal.sqlite")
    try:
        return await second.load()
    finally:
        await second.close()


async def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert await journal.load() == EMPTY
    assert await journal.read_log(None) == ()


async def test_an_accepted_request_survives_as_it_was(journal: Journal, tmp_path: Path) -> None:
    intent = await accepted(journal, request())
    assert intent.id > 0
    assert (await after_a_crash(journal, tmp_path)).intents == (intent,)
    await accepted(journal, replace(request("two"), channel=Channel.TM, vm=None, lcm_state=-1, history_seq=-1))
    contents = await after_a_crash(journal, tmp_path)
    assert [i.source for i in contents.intents] == ["session:1", "two"]
    assert contents.intents[1].channel is Channel.TM
    assert contents.intents[1].vm is None


async def test_the_same_source_is_one_request(journal: Journal) -> None:
    first = await accepted(journal, request())
    assert await journal.accept(request()) is None
    assert await journal.accept(replace(request(), action="CANCEL", payload="other")) is None
    assert (await journal.load()).intents == (first,)
    await journal.conclude(first, Outcome(first.id, ok=True, info="-", created=1.0))
    assert await journal.accept(request()) is None


async def test_an_outcome_and_its_desired_state_come_together(journal: Journal, tmp_path: Path) -> None:
    intent = await accepted(journal, request())
    outcome = Outcome(intent.id, ok=True, info="one-25002", created=5.5)
    desired = Desired(VM, NodeName("node1"), Power.RUNNING, 7, FULL_SPEC, 2.5, "2026-01-01T00:00:00Z")
    await journal.conclude(intent, outcome, desired)
    contents = await after_a_crash(journal, tmp_path)
    assert contents == Contents((desired,), (), ((intent, outcome),), ())
    assert await journal.outcome_of("session:1") == outcome


async def test_a_delivered_outcome_is_not_delivered_again(journal: Journal, tmp_path: Path) -> None:
    intent = await accepted(journal, request())
    await journal.conclude(intent, Outcome(intent.id, ok=False, info="why", created=1.0))
    await journal.settle(intent.id, fate="delivered", time=2.0)
    assert await after_a_crash(journal, tmp_path) == EMPTY
    assert await journal.outcome_of("session:1") == Outcome(intent.id, ok=False, info="why", created=1.0)


async def test_what_nobody_waits_for_is_settled_at_once(journal: Journal) -> None:
    silent = await accepted(journal, request("1", action="REBOOT"))
    await journal.conclude(silent, Outcome(silent.id, ok=True, info="-", created=1.0, answers=False))
    script = await accepted(journal, replace(request("2"), channel=Channel.TM))
    await journal.conclude(script, Outcome(script.id, ok=True, info="", created=1.0))
    cancelled = await accepted(journal, request("3"))
    await journal.conclude(cancelled, None)
    assert await journal.load() == EMPTY
    assert await journal.outcome_of("2") == Outcome(script.id, ok=True, info="", created=1.0)
    assert await journal.outcome_of("3") is None
    assert await journal.outcome_of("never") is None


async def test_a_refused_request_is_never_open(journal: Journal, tmp_path: Path) -> None:
    refused = await journal.refuse(request(action="SAVE"), "not supported yet", answers=True)
    assert refused is not None
    intent, outcome = refused
    assert (outcome.ok, outcome.info) == (False, "not supported yet")
    contents = await after_a_crash(journal, tmp_path)
    assert contents.intents == ()
    assert contents.outcomes == ((intent, outcome),)
    assert await journal.refuse(request(action="SAVE"), "again", answers=True) is None
    assert await journal.accept(request()) is None


async def test_desired_states_and_conditions_are_replaced_and_forgotten(journal: Journal, tmp_path: Path) -> None:
    stopped = Desired(VM, NodeName("node1"), Power.STOPPED)
    await journal.put_desired(replace(stopped, power=Power.RUNNING))
    await journal.put_desired(stopped)
    condition = Condition("Running", ok=False, reason="Exited", message="code 1", since=12.5)
    await journal.put_condition(VM, replace(condition, ok=True))
    await journal.put_condition(VM, condition)
    contents = await after_a_crash(journal, tmp_path)
    assert contents == Contents((stopped,), (), (), ((VM, condition),))
    assert contents.conditions[0][1].since == 12.5
    await journal.forget(VM)
    assert await after_a_crash(journal, tmp_path) == EMPTY


async def test_a_registry_is_restored_from_what_is_left(journal: Journal) -> None:
    registry = Registry(journal)
    await registry.want(Desired(VM, NodeName("node1"), Power.RUNNING, 3, FULL_SPEC))
    assert await registry.set_condition(VM, "Running", ok=True, reason="Deploy")
    assert not await registry.set_condition(VM, "Running", ok=True, reason="Deploy")
    since = registry.record(VM).conditions["Running"].since
    assert await registry.set_condition(VM, "Running", ok=True, reason="Restore")
    assert registry.record(VM).conditions["Running"].since == since
    intent = await accepted(journal, request())
    again = Registry(journal)
    again.restore(await journal.load())
    record = again.find(VM)
    assert record is not None
    assert record.desired == registry.record(VM).desired
    assert record.name == FULL_SPEC.name
    assert record.conditions["Running"].reason == "Restore"
    assert list(record.intents) == [intent]
    await again.forget(VM)
    assert again.find(VM) is record  # a request is open
    record.intents.clear()
    await again.forget(VM)
    assert again.find(VM) is None
    assert (await journal.load()).desired == ()


async def test_a_burst_is_kept_in_order(journal: Journal, tmp_path: Path) -> None:
    burst = [request(f"s:{n}", vm=VmId(25100 + n % 800)) for n in range(1000)]
    intents = await asyncio.gather(*(journal.accept(new) for new in burst))
    assert [i.source for i in intents if i is not None] == [new.source for new in burst]
    assert (await after_a_crash(journal, tmp_path)).intents == tuple(intents)


async def test_a_barrier_comes_after_what_was_handed_in_before(journal: Journal) -> None:
    order: list[str] = []

    async def note(name: str, work: object) -> None:
        await work  # type: ignore[misc]
        order.append(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(note("accept", journal.accept(request())))
        tasks.create_task(note("barrier", journal.barrier()))
        tasks.create_task(note("later", journal.accept(request("later"))))
    assert order == ["accept", "barrier", "later"]


async def test_a_full_disk_loses_nothing_that_was_accepted(journal: Journal, tmp_path: Path) -> None:
    kept = await accepted(journal, request("kept"))
    pages = await journal._run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await journal._run(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 3}").fetchone())
    huge = replace(request("huge"), payload="x" * 1_000_000)
    with pytest.raises(TransientError, match=r"cannot be written.*free space"):
        await journal.accept(huge)
    small, failed = await asyncio.gather(journal.accept(request("small")), journal.accept(huge), return_exceptions=True)
    assert isinstance(failed, TransientError)
    assert isinstance(small, Intent)  # it was in the same batch, and is not lost with it
    assert (await after_a_crash(journal, tmp_path)).intents == (kept, small)
    await journal._run(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
    again = await accepted(journal, huge)
    assert (await journal.load()).intents == (kept, small, again)


async def test_a_write_that_cannot_be_harms_no_other(journal: Journal) -> None:
    bad = request("bad", action="DEPLOY\udc80")
    worse = replace(request("worse"), lcm_state=10**30)
    results = await asyncio.gather(
        journal.accept(request("1")), journal.accept(bad), journal.accept(worse), journal.accept(request("2")),
        return_exceptions=True,
    )  # fmt: skip
    assert isinstance(results[1], UnicodeEncodeError)
    assert isinstance(results[2], OverflowError)
    assert [i.source for i in (await journal.load()).intents] == ["1", "2"]


async def test_texts_of_engines_may_have_any_characters(journal: Journal) -> None:
    intent = await accepted(journal, request())
    await journal.conclude(intent, Outcome(intent.id, ok=False, info="bad \udc80 byte\0", created=1.0))
    await journal.put_condition(VM, Condition("Running", ok=False, reason="Exited", message="\ud800"))
    await journal.write_log([LogLine(VM, 1.0, "error", "x", {"error": "\udcff", "what": object})])
    contents = await journal.load()
    assert contents.outcomes[0][1].info == "bad ? byte\0"
    assert contents.conditions[0][1].message == "?"
    assert len(await journal.read_log(VM)) == 1


async def test_of_two_conclusions_there_is_one_outcome(journal: Journal) -> None:
    intent = await accepted(journal, request())
    await journal.conclude(intent, Outcome(intent.id, ok=True, info="first", created=1.0))
    await journal.conclude(intent, Outcome(intent.id, ok=False, info="second", created=2.0))
    assert [outcome.info for _, outcome in (await journal.load()).outcomes] == ["second"]


async def test_a_journal_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(TransientError, match="newer release"):
        await Journal.open(path)


@pytest.mark.parametrize("content", [b"this is no database, not at all" * 100, b"SQLite format 3\0" + b"x" * 4096])
async def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(TransientError, match="cannot be opened"):
        await Journal.open(path)
    assert path.read_bytes() == content


async def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "journal.sqlite")
    writes = [asyncio.create_task(journal.accept(request(f"s:{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await journal.close()
    assert all(intent is not None for intent in await asyncio.gather(*writes))
    again = await Journal.open(tmp_path / "journal.sqlite")
    assert len((await again.load()).intents) == 50
    await again.close()


async def test_the_log_of_a_vm_is_read_in_order_and_from_a_line_on(journal: Journal) -> None:
    other = VmId(25003)
    lines = [LogLine(VM if n % 2 else other, float(n), "info", f"event {n}", {"n": n}) for n in range(10)]
    await journal.write_log(lines)
    mine = await journal.read_log(VM)
    assert [line.fields["n"] for line in mine] == [1, 3, 5, 7, 9]
    assert [line.fields["n"] for line in await journal.read_log(None, limit=3)] == [7, 8, 9]
    assert [line.fields["n"] for line in await journal.read_log(VM, after=mine[2].id)] == [7, 9]


async def test_pruning_keeps_what_is_open_undelivered_or_new(journal: Journal) -> None:
    async def closed(source: str, received: float) -> Intent:
        intent = await accepted(journal, request(source, received=received))
        await journal.conclude(intent, Outcome(intent.id, ok=True, info="-", created=received))
        return intent

    open_one = await accepted(journal, request("open", received=1.0))
    undelivered = await closed("undelivered", 1.0)
    for source, received in (("old", 1.0), ("new", 1000.0)):
        intent = await closed(source, received)
        await journal.settle(intent.id, fate="delivered", time=received)
    await journal.write_log([LogLine(vm, 0.0, "info", str(n), {}) for vm in (VM, VmId(25003)) for n in range(20)])
    await journal.prune(log_per_vm=5, log_since=0.0, intents_since=500.0)
    contents = await journal.load()
    assert contents.intents == (open_one,)
    assert [intent for intent, _ in contents.outcomes] == [undelivered]
    assert await journal.outcome_of("old") is None
    assert await journal.outcome_of("new") is not None
    assert [line.event for line in await journal.read_log(VM)] == ["15", "16", "17", "18", "19"]
    assert len(await journal.read_log(None)) == 10
