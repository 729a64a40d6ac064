"""A cloud that serves one test after the other: to start and end one takes as long as what most tests do with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.cloud import Cloud
from tests.support.engine import PrivateEngine
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import VmState

_ALL = (-2, -1, -1)
_DELETE = 3
"""Of ``one.vm.recover``."""


class KeptCloud:
    """``async with KeptCloud(engine, registry) as kept:`` lends a cloud without VMs, images and networks of others."""

    def __init__(self, engine: PrivateEngine, registry: PrivateRegistry) -> None:
        self._engine, self._registry = engine, registry
        self._cloud: Cloud | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cloud is not None:
            await self._cloud.__aexit__(kind, error, trace)
        self._cloud = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Cloud]:
        """A cloud for one test. AssertionError: something of a VM is left, or an error of the controller was logged.

        What the test made in OpenNebula is removed here. After an error the next test gets another cloud.
        """
        if self._cloud is None:
            self._cloud = await Cloud(self._engine, self._registry).__aenter__()
        cloud = self._cloud
        before = await _Content.of(cloud)
        try:
            yield cloud
            await _terminate(cloud)
            after = await _Content.of(cloud)
            for kind, number in after.objects.keys() - before.objects.keys():
                await cloud.one.call(f"one.{kind}.delete", number, *([False] if kind == "image" else []))
            await eventually(lambda: _is_as(cloud, before), what="OpenNebula and node are as before")
            _, traceback, crash = cloud.controller.log_text()[before.logged :].partition("Traceback")
            assert not traceback, crash[:3000]
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise


@dataclass(frozen=True, slots=True)
class _Content:
    objects: dict[tuple[str, int], str]
    """Images, networks and security groups of OpenNebula, with what is said of them."""
    containers: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    logged: int

    @classmethod
    async def of(cls, cloud: Cloud) -> Self:
        objects = {}
        for kind, pool in (("image", "imagepool"), ("vn", "vnpool"), ("secgroup", "secgrouppool")):
            for element in await cloud.one.document(f"one.{pool}.info", *_ALL):
                said = {one.tag: one.text or "" for one in element.iterfind("TEMPLATE/*")}
                objects[kind, int(element.findtext("ID", ""))] = str(sorted(said.items()))
        return cls(
            objects=objects,
            containers=frozenset(one["Id"] for one in cloud.engine.api("GET", "/containers/json?all=1")),
            namespaces=frozenset(cloud.namespaces()),
            links=frozenset(cloud.links()),
            logged=len(cloud.controller.log_text()),
        )


async def _is_as(cloud: Cloud, before: _Content) -> bool:
    now = await _Content.of(cloud)
    assert now.containers <= before.containers
    assert now.namespaces <= before.namespaces
    assert now.objects == before.objects
    assert now.links == before.links
    return True


async def _terminate(cloud: Cloud) -> None:
    """All VMs, and wait until the controller has nothing more to do for them."""
    pool = await cloud.one.document("one.vmpool.info", *_ALL, -1)
    vms = [int(element.findtext("ID", "")) for element in pool]
    for vm in vms:
        await cloud.one.call("one.vm.recover", vm, _DELETE)
    for vm in vms:
        await cloud.reaches(vm, VmState.DONE)
    await cloud.settled()
