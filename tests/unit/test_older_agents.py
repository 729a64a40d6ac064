"""A controller and the agent of an earlier release: what that one does not know is not asked of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from onedock.nodeside.contract import FORM, SINCE, beyond
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import TransientError
from onedock.reconcilers.model import Network, Nic, VmId
from onedock.reconcilers.nic_parts import Bandwidth, Method, Spoofing, Vlan

VM = VmId(280_010)
NIC = Nic(0, "eth0", f"one-{VM}-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",), ("10.0.0.254",), 1400, "p0")
FIRST_FIELDS = {"index", "name", "host_name", "mac", "bridge", "addresses", "gateways", "mtu", "phydev"}


class OlderAgent:
    """Makes of a network what its release knows of it, and ignores all else, as pydantic does."""

    def __init__(self, form: int | None = None) -> None:
        self.form = form
        self.networks: dict[int, dict[str, Any]] = {}

    async def health(self, _: web.Request) -> web.Response:
        """What it says of itself; the first releases say no form."""
        return web.json_response({"version": "0.9", "facts": {}} | ({"network": self.form} if self.form else {}))

    async def ensure(self, request: web.Request) -> web.Response:
        """Take over a network."""
        known = {name for name, (since, _) in SINCE.items() if since <= (self.form or 1)} | FIRST_FIELDS
        asked = json.loads(await request.read())
        nics = [{name: value for name, value in nic.items() if name in known} for nic in asked["nics"]]
        self.networks[asked["vm"]] = {"vm": asked["vm"], "nics": nics}
        return web.json_response({"vm": asked["vm"], "nics": [{"nic": nic, "up": True} for nic in nics]})

    @asynccontextmanager
    async def serving(self, socket: Path) -> AsyncIterator[AgentClient]:
        """A client of it, on a socket."""
        application = web.Application()
        application.add_routes([web.get("/health", self.health), web.put("/vms/{vm}/network", self.ensure)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        try:
            async with AgentClient(socket, node="kvm-7") as client:
                yield client
        finally:
            await runner.cleanup()


async def test_what_it_knows_is_asked_of_it(tmp_path: Path) -> None:
    agent, wanted = OlderAgent(), Network(VM, (NIC,))
    async with agent.serving(tmp_path / "agent.sock") as client:
        assert (await client.ensure(wanted)).provides(wanted)
    assert agent.networks[VM]["nics"][0]["mac"] == NIC.mac


@pytest.mark.parametrize(
    ("changes", "feature"),
    [
        ({"uplink": Vlan("p0.5", "p0", 5)}, "VLAN or VXLAN"),
        ({"rules": (), "inbound": Bandwidth(1), "outbound": Bandwidth(1)}, "security groups, bandwidth limits"),
        ({"spoofing": Spoofing(mac=True)}, "filters against spoofing"),
        ({"method": Method.DHCP}, "METHOD"),
    ],
)
async def test_what_it_does_not_know_is_refused_and_not_half_made(
    tmp_path: Path, changes: dict[str, Any], feature: str
) -> None:
    agent = OlderAgent()
    async with agent.serving(tmp_path / "agent.sock") as client:
        with pytest.raises(TransientError) as refused:
            await client.ensure(Network(VM, (NIC, replace(NIC, index=1, **changes))))
    assert agent.networks == {}
    assert str(refused.value) == (
        f"the agent of node kvm-7 is too old for {feature};"
        " upgrade onedock there and restart onedock-agent, nothing was changed"
    )


async def test_an_agent_that_was_upgraded_meanwhile_is_asked(tmp_path: Path) -> None:
    agent, wanted = OlderAgent(), Network(VM, (replace(NIC, rules=()),))
    async with agent.serving(tmp_path / "agent.sock") as client:
        with pytest.raises(TransientError, match="security groups"):
            await client.ensure(wanted)
        agent.form = 2
        assert (await client.ensure(wanted)).provides(wanted)
        # And back to the earlier release: the next sign of life tells it.
        agent.form = None
        assert await client.version() == "0.9"
        with pytest.raises(TransientError, match="security groups"):
            await client.ensure(wanted)


async def test_an_agent_of_a_later_release_is_asked(tmp_path: Path) -> None:
    agent, wanted = OlderAgent(FORM + 1), Network(VM, (replace(NIC, rules=(), dns=("10.0.0.53",)),))
    async with agent.serving(tmp_path / "agent.sock") as client:
        assert (await client.ensure(wanted)).provides(wanted)


def test_every_field_has_its_form() -> None:
    names = {one.name for part in (Nic, Network) for one in fields(part)}
    assert set(SINCE) == names - FIRST_FIELDS - {"vm", "nics"}, "a field that is new needs a form of its own"
    assert max(since for since, _ in SINCE.values()) == FORM


def test_a_network_of_the_vm_itself_counts_too() -> None:
    assert beyond(Network(VM, (NIC,), dns=("10.0.0.53",)), 2) == ("name servers",)
    assert beyond(Network(VM, (NIC,)), 1) == ()
