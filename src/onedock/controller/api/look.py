"""A fresh look at one VM: its node, its plan, and what oned says, all at once and bounded in time."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from onedock.controller.api.parts import Parts
from onedock.controller.api.shapes import node_conditions, pull_target
from onedock.controller.compare import describe_action
from onedock.controller.documents import VmDocument
from onedock.controller.explain import Situation
from onedock.controller.intents import IntentState
from onedock.controller.nodes import Node
from onedock.controller.registry import VmRecord
from onedock.reconcilers.drift import find_drift
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError
from onedock.reconcilers.model import Condition, Desired, Observed, VmId
from onedock.reconcilers.vm import plan

DEADLINE_S = 3.0
RECENT = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a VM's node has shown."""

    desired: Desired | None
    """What would be wanted after the next pass: changes from outside are taken over first."""
    observed: Observed | None = None
    plan: tuple[str, ...] = ()
    plan_error: str = ""
    error: str = ""
    """Why nothing could be seen."""
    conditions: tuple[Condition, ...] = ()


async def look_at(parts: Parts, record: VmRecord) -> Look:
    """Observe a VM and plan its next pass; nothing is applied."""
    desired = record.desired
    if desired is None:
        return Look(None, conditions=_conditions_by_intent(parts, record))
    try:
        node = await parts.nodes.get(desired.node)
    except TerminalError as error:
        return Look(desired, error=str(error))
    conditions = await _present_conditions(node)
    if not all(condition.ok for condition in conditions[:2]):
        return Look(desired, error="", conditions=conditions)
    try:
        async with asyncio.timeout(DEADLINE_S):
            observed = await node.runner.observe(desired)
    except TimeoutError:
        return Look(desired, error=f"node {node.name} did not answer within {DEADLINE_S:g} s", conditions=conditions)
    except OnedockError as error:
        return Look(desired, error=str(error), conditions=conditions)
    drift = None if record.intents else find_drift(desired, observed)
    wanted = replace(desired, power=drift.power) if drift is not None else desired
    try:
        actions = tuple(describe_action(action) for action in plan(wanted, observed))
    except TerminalError as error:
        return Look(wanted, observed, plan_error=str(error), conditions=conditions)
    if drift is not None and wanted.power is not desired.power:
        actions = (f"take over that {drift.message}", *actions)
    return Look(wanted, observed, actions, conditions=conditions)


def _conditions_by_intent(parts: Parts, record: VmRecord) -> tuple[Condition, ...]:
    """Of the node for which a transfer of a VM is under way that is not known yet."""
    targets = [target for intent in record.intents if (target := pull_target(intent))]
    node = parts.nodes.find(targets[0][0]) if targets else None
    return node_conditions(node) if node is not None else ()


async def _present_conditions(node: Node) -> tuple[Condition, ...]:
    """As of now: a side that does not answer is known before the next regular check."""
    engine_error, agent_error = await asyncio.gather(_why_not(node.engine.ping()), _why_not(node.agent.host_facts()))
    known = node_conditions(node)
    fresh = (("Engine", engine_error), ("Agent", agent_error))
    return (*(_fresher(node, old, error) for old, (_, error) in zip(known, fresh, strict=False)), *known[2:])


def _fresher(node: Node, known: Condition, error: str) -> Condition:
    if not error or not known.ok:
        return known
    message = f"{known.name.lower()} of node {node.name}: {error}"
    return replace(known, ok=False, reason="NotUsable", message=message, since=time.time())


async def _why_not(call: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await call
    except TimeoutError:
        return f"no answer within {DEADLINE_S:g} s"
    except OnedockError as error:
        return str(error)
    return ""


async def ask_oned(parts: Parts, vm: VmId) -> tuple[VmDocument | None, str]:
    """The VM as oned sees it now, or why it cannot be told."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await parts.oned.vm(vm), ""
    except NotFoundError:
        return None, ""
    except TimeoutError:
        return None, f"oned does not answer at {parts.settings.opennebula.endpoint} within {DEADLINE_S:g} s"
    except OnedockError as error:
        return None, str(error)


async def situation_of(parts: Parts, record: VmRecord) -> tuple[Situation, Look]:
    """Everything that ``explain.find_cause`` wants to know."""
    look, (document, oned_error), rows = await asyncio.gather(
        look_at(parts, record), ask_oned(parts, record.vm), parts.journal.intents(vm=record.vm, limit=RECENT)
    )
    situation = Situation(
        vm=record.vm,
        driver=parts.settings.opennebula.driver,
        desired=look.desired,
        node_conditions=look.conditions,
        look_error=look.error,
        plan=look.plan,
        plan_error=look.plan_error,
        error=record.error,
        retry_in_s=parts.queue.due_in(record.vm),
        in_progress=progress_of(parts, record),
        waiting=look.observed.network.waiting if look.observed and look.observed.network else (),
        recent=tuple(row for row in reversed(rows) if row.state is not IntentState.OPEN),
        running=record.conditions.get("Running"),
        document=document,
        oned_error=oned_error,
        journal_error=parts.journal.error,
        links=parts.links_up(),
    )
    return situation, look


def progress_of(parts: Parts, record: VmRecord) -> str:
    """What is being done for a VM, since when, and how far a pull is; empty when nothing is."""
    if not record.intents:
        return ""
    intent = record.intents[0]
    text = f"{intent.action} (request {intent.id}) for {time.time() - intent.received:.0f} s"
    if (pull := pull_of(parts, record)) is not None:
        done, total = pull
        text += f", the image is being pulled: {done * 100 // total} % of {total} bytes" if total else ", pulling"
    return text


def pull_of(parts: Parts, record: VmRecord) -> tuple[int, int] | None:
    """Bytes so far and in all of the pull that a VM waits for."""
    targets = [target for intent in record.intents if (target := pull_target(intent))]
    if record.desired is not None and record.desired.spec is not None:
        targets.append((record.desired.node, record.desired.spec.container.image))
    for name, image in targets:
        node = parts.nodes.find(name)
        if node is not None and image in node.pulls:
            return node.pulls[image]
    return None
