"""Asks controller, oned, registry, engines and agents, all at the same time and each bounded. Changes nothing."""

import asyncio
import datetime
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from onedock.config.settings import NodeSettings, Settings
from onedock.controller.documents import VmDocument, number_of, text_of
from onedock.controller.explain import lcm_name
from onedock.controller.images.registry import Registry
from onedock.controller.oned import Host, Oned
from onedock.controller.xml import parse_xml
from onedock.doctor.facts import Datastore, Disk, Facts, NodeFacts, Trouble
from onedock.nodeside.checkup import Checkup
from onedock.nodeside.docker import DockerEngine, EngineInfo
from onedock.nodeside.remote import AgentClient
from onedock.reconcilers.errors import OnedockError, TransientError
from onedock.reconcilers.model import NodeName, VmId

T = TypeVar("T")
AskController = Callable[[str], Any]
DEADLINE_S = 5.0
TROUBLES = 20
"""VMs that are explained at most: who has more of them starts with the causes above."""
_SYSTEM_DATASTORE = 1


async def gather(settings: Settings, ask_controller: AskController) -> Facts:
    """All facts. ``ask_controller`` returns its answer to a GET or raises OnedockError; it may block."""
    health, oned, registry, write, *nodes = await asyncio.gather(
        _try(asyncio.to_thread(ask_controller, "/health")),
        _try(_ask_oned(settings)),
        _try(_ask_registry(settings, write=False)),
        _try(_ask_registry(settings, write=True)),
        *(_ask_node(name, node) for name, node in _nodes(settings).items()),
    )
    hosts, datastores, vms, restricted = oned[0] or ((), (), (), None)
    failed = {vm.id for vm in vms if lcm_name(vm.lcm_state).endswith("FAILURE")}
    return Facts(
        settings=settings,
        health=health[0],
        api_error=health[1],
        oned_error=oned[1],
        hosts=hosts,
        datastores=datastores,
        restricted=restricted,
        vms=frozenset(vm.id for vm in vms),
        troubles=await _troubles(ask_controller, failed) if health[0] else (),
        registry_error=registry[1],
        registry_write_error=write[1],
        journal_disk=_disk(settings.controller.state_dir),
        registry_disk=_disk(settings.registry.data_dir) if settings.registry.data_dir else None,
        nodes=tuple(nodes),
    )


def _nodes(settings: Settings) -> dict[NodeName, NodeSettings]:
    """The nodes of the settings; without any, this machine is the only one."""
    named = {NodeName(name): node for name, node in settings.nodes.items()}
    return named or {NodeName(socket.gethostname()): NodeSettings()}


async def _try(question: Awaitable[T]) -> tuple[T | None, str]:
    """The answer, or why there is none."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await question, ""
    except TimeoutError:
        return None, f"no answer within {DEADLINE_S:g} s"
    except OnedockError as error:
        return None, str(error)


async def _troubles(ask_controller: AskController, failed: set[VmId]) -> tuple[Trouble, ...]:
    """VMs that failed in OpenNebula, whose last pass failed, or that are down by what happened to them."""
    listed, _ = await _try(asyncio.to_thread(ask_controller, "/vms"))
    suspects = {vm["vm"] for vm in listed or () if vm["error"] or (vm["running"] and not vm["running"]["ok"])}
    asked = [
        _try(asyncio.to_thread(ask_controller, f"/vms/{vm}/explain")) for vm in sorted(suspects | failed)[:TROUBLES]
    ]
    found = [answer for answer, _ in await asyncio.gather(*asked) if answer and answer["cause"]["blocking"]]
    return tuple(Trouble(VmId(one["vm"]), one["name"], one["cause"]["text"]) for one in found)


async def _ask_oned(
    settings: Settings,
) -> tuple[tuple[Host, ...], tuple[Datastore, ...], tuple[VmDocument, ...], frozenset[str]]:
    try:
        async with Oned(settings.opennebula, deadline_s=DEADLINE_S - 1) as oned:
            hosts, vms, pool, configuration = await asyncio.gather(
                oned.hosts(), oned.vms(), oned.call("datastorepool.info"), oned.call("system.config")
            )
    except TimeoutError:
        raise TransientError(f"oned does not answer at {settings.opennebula.endpoint}") from None
    restricted = parse_xml(str(configuration)).iterfind("VM_RESTRICTED_ATTR")
    return hosts, _datastores(str(pool)), vms, frozenset((name.text or "").strip().upper() for name in restricted)


def _datastores(pool: str) -> tuple[Datastore, ...]:
    return tuple(
        Datastore(
            id=number_of(element, "ID"),
            name=text_of(element, "NAME"),
            is_system=number_of(element, "TYPE") == _SYSTEM_DATASTORE,
            ds_mad=text_of(element, "DS_MAD"),
            tm_mad=text_of(element, "TM_MAD"),
        )
        for element in parse_xml(pool).findall("DATASTORE")
    )


async def _ask_registry(settings: Settings, *, write: bool) -> None:
    wanted = settings.registry
    plain = not wanted.tls or wanted.address in wanted.insecure_sources
    async with aiohttp.ClientSession(trust_env=True) as session:
        repository = f"{wanted.repository}/doctor"
        registry = Registry(session, wanted.address, repository, plain=plain, auth_file=wanted.auth_file)
        await (registry.check_writable() if write else registry.ping())


async def _ask_node(name: NodeName, settings: NodeSettings) -> NodeFacts:
    try:
        async with DockerEngine(settings.engine) as engine, AgentClient(settings.agent) as agent:
            (info, skew), (checkup, agent_skew), containers, networks, usage = await asyncio.gather(
                _with_clock(engine.info(), _engine_clock),
                _with_clock(agent.checkup(), _agent_clock),
                _try(engine.list_ours()),
                _try(agent.list_vms()),
                _try(agent.host_usage()),
            )
    except OnedockError as error:  # an address that makes no sense
        return NodeFacts(name, settings, engine_error=str(error), agent_error="not asked")
    return NodeFacts(
        name,
        settings,
        info=info[0],
        engine_error=info[1],
        engine_skew_s=skew,
        checkup=checkup[0],
        agent_error=checkup[1],
        agent_skew_s=agent_skew,
        usage=usage[0],
        containers=containers[0] or (),
        networks=networks[0] or (),
    )


def _engine_clock(info: EngineInfo) -> float:
    try:
        return datetime.datetime.fromisoformat(info.system_time).timestamp()
    except ValueError:
        return time.time()  # an engine that does not tell the time is not known to be wrong


def _agent_clock(checkup: Checkup) -> float:
    return checkup.time


async def _with_clock(question: Awaitable[T], clock: Callable[[Any], float]) -> tuple[tuple[T | None, str], float]:
    """The answer, and how far the clock in it is ahead: at least by the time that the answer can have taken."""
    before = time.time()
    answer, error = await _try(question)
    if answer is None:
        return (answer, error), 0.0
    theirs, after = clock(answer), time.time()
    return (answer, error), min(0.0, theirs - before) or max(0.0, theirs - after)


def _disk(path: Path) -> Disk | None:
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    return Disk(usage.total, usage.free)
