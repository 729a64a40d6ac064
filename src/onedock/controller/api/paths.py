"""View of the way of a VM's frames: what its node sees, with OpenNebula's names, and the first broken hop."""

import asyncio
from dataclasses import asdict
from typing import Any

from aiohttp import web

from onedock.controller.api.look import ask_oned
from onedock.controller.api.parts import Parts, vm_of
from onedock.controller.api.shapes import heals_view
from onedock.controller.documents import Attributes
from onedock.reconcilers.errors import NotFoundError
from onedock.reconcilers.model import NodeName, VmId
from onedock.reconcilers.path import NicPath
from onedock.reconcilers.path_fault import find_broken


class PathView:
    """``/vms/{vm}/path``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        """What is served here."""
        return [web.get("/vms/{vm:[0-9]{1,9}}/path", self.path)]

    async def path(self, request: web.Request) -> web.Response:
        """All NICs of a VM; ``?probe``: its gateways are looked for."""
        vm = vm_of(request)
        node = await self._parts.nodes.get(self._node_of(vm))
        found, (document, _), heals = await asyncio.gather(
            node.agent.path(vm, probe="probe" in request.query),
            ask_oned(self._parts, vm),
            self._parts.journal.vm_heals(vm),
        )
        named = {nic.get("NIC_ID"): nic for nic in document.nics} if document else {}
        view = {
            "vm": vm,
            "name": document.name if document else "",
            "node": node.name,
            "namespace": found.namespace,
            "interval_s": found.interval_s,
            "heals": heals_view(heals),
            "resolver": asdict(found.resolver) if found.resolver is not None else None,
            "nics": [nic_view(path, named.get(str(path.nic.index), {})) for path in found.nics],
        }
        return web.json_response(view)

    def _node_of(self, vm: VmId) -> NodeName:
        record = self._parts.registry.find(vm)
        if record is None or record.desired is None:
            raise NotFoundError(f"ONEDock knows no VM {vm}; `onedock explain {vm}` tells why")
        return record.desired.node


def nic_view(path: NicPath, attributes: Attributes) -> dict[str, Any]:
    """One NIC: its way, its first fault, and OpenNebula's names."""
    fault = find_broken(path)
    return {
        "network": attributes.get("NETWORK", ""),
        "driver": attributes.get("VN_MAD", ""),
        "fault": asdict(fault) if fault else None,
        **asdict(path),
    }
