"""Views of VMs: list, detail, explanation, plan."""

import asyncio
from dataclasses import asdict

from aiohttp import web

from onedock.controller.api.look import Look, look_at, pull_of, situation_of
from onedock.controller.api.parts import Parts, vm_of
from onedock.controller.api.shapes import Json, detail, summary
from onedock.controller.compare import compare
from onedock.controller.explain import find_cause, lcm_name
from onedock.controller.oned import VM_STATE
from onedock.controller.registry import VmRecord
from onedock.reconcilers.errors import NotFoundError

LOOKS_AT_ONCE = 16


class VmViews:
    """``/vms`` and ``/plan``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [
            web.get("/vms", self.vms),
            web.get("/vms/{vm:[0-9]{1,9}}", self.vm),
            web.get("/vms/{vm:[0-9]{1,9}}/explain", self.explain),
            web.get("/vms/{vm:[0-9]{1,9}}/plan", self.plan),
            web.get("/plan", self.plan_all),
        ]

    async def vms(self, request: web.Request) -> web.Response:
        """All VMs that have a desired state."""
        known = [record for record in self._parts.registry if record.desired is not None]
        return web.json_response([summary(record) for record in known])

    async def vm(self, request: web.Request) -> web.Response:
        """One VM as it was last seen."""
        record = self._record(request)
        parts = self._parts
        heals, retry_in_s = await parts.journal.vm_heals(record.vm), parts.queue.due_in(record.vm)
        return web.json_response(detail(record, heals=heals, pull=pull_of(parts, record), retry_in_s=retry_in_s))

    async def explain(self, request: web.Request) -> web.Response:
        """One VM as it is now, and why. VMs that ONEDock does not know (any more) are explained too."""
        vm = vm_of(request)
        record = self._parts.registry.find(vm) or VmRecord(vm)
        situation, look = await situation_of(self._parts, record)
        cause = find_cause(situation)
        observed = look.observed or record.observed
        document = situation.document
        last = situation.recent[0] if situation.recent else None
        return web.json_response(
            {
                "vm": vm,
                "name": record.name or (document.name if document else ""),
                "cause": asdict(cause),
                "one": None if document is None else {
                    "state": _state_name(document.state), "lcm_state": lcm_name(document.lcm_state),
                    "error": document.user_attributes.get("ERROR", ""),
                },
                "node": look.desired.node if look.desired else "",
                "conditions": [asdict(c) for c in (*look.conditions, *record.conditions.values())],
                "fields": [asdict(row) for row in compare(look.desired, observed)] if look.desired and observed else [],
                "fresh": look.observed is not None,
                "observed_at": record.observed_at,
                "in_progress": situation.in_progress,
                "last": asdict(last) if last else None,
                "plan": look.plan,
                "plan_error": look.plan_error or look.error,
                "error": record.error,
                "retry_in_s": situation.retry_in_s,
            }
        )  # fmt: skip

    async def plan(self, request: web.Request) -> web.Response:
        """What the next pass over one VM would do."""
        record = self._record(request)
        return web.json_response([_plan_view(record, await look_at(self._parts, record))])

    async def plan_all(self, request: web.Request) -> web.Response:
        """What the next passes would do: the VMs with something to do, or that could not be looked at."""
        gate = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def one(record: VmRecord) -> Json:
            async with gate:
                return _plan_view(record, await look_at(self._parts, record))

        plans = await asyncio.gather(*(one(record) for record in self._parts.registry))
        return web.json_response([plan for plan in plans if plan["actions"] or plan["error"]])

    def _record(self, request: web.Request) -> VmRecord:
        vm = vm_of(request)
        record = self._parts.registry.find(vm)
        if record is None or (record.desired is None and not record.intents):
            raise NotFoundError(f"ONEDock knows no VM {vm}; `onedock explain {vm}` tells why")
        return record


def _plan_view(record: VmRecord, look: Look) -> Json:
    trouble = [
        condition.message for condition in look.conditions if not condition.ok and condition.name != "LiveRestore"
    ]
    error = look.plan_error or look.error or "; ".join(trouble)
    node = look.desired.node if look.desired else ""
    return {"vm": record.vm, "name": record.name, "node": node, "actions": look.plan, "error": error}


def _state_name(state: int) -> str:
    try:
        return str(VM_STATE(state).name)
    except ValueError:
        return f"state {state}"
