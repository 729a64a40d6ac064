"""The pools on disk: every saved object is one row, so a killed process loses nothing it has told anybody."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from onedock.lab.opennebula.objects import (
    Datastore,
    Host,
    Image,
    SecurityGroup,
    VirtualNetwork,
    Vm,
    VmTemplate,
)

Stored = TypeVar("Stored", Vm, Host, Image, Datastore, VirtualNetwork, SecurityGroup, VmTemplate)


@dataclass(slots=True)
class Pool(Generic[Stored]):
    """All objects of one kind by id, and the id that the next one gets (ids are never reused)."""

    kind: type[Stored]
    adapter: TypeAdapter[Stored]
    objects: dict[int, Stored] = field(default_factory=dict)
    next_id: int = 0

    def get(self, object_id: int) -> Stored | None:
        """The object, or None."""
        return self.objects.get(object_id)

    def newest_first(self) -> list[Stored]:
        """All objects in the order of pool answers: highest id first."""
        return [self.objects[key] for key in sorted(self.objects, reverse=True)]


def _pool(kind: type[Stored], first_id: int = 0) -> Pool[Stored]:
    return Pool(kind, TypeAdapter(kind), next_id=first_id)


class Store:
    """The pools, read from one SQLite file and written object by object."""

    def __init__(self, path: Path) -> None:
        self.vms = _pool(Vm)
        self.hosts = _pool(Host)
        self.images = _pool(Image)
        # the first ids are taken by the objects that every OpenNebula is born with
        self.datastores = _pool(Datastore, first_id=100)
        self.networks = _pool(VirtualNetwork)
        self.security_groups = _pool(SecurityGroup, first_id=100)
        self.templates = _pool(VmTemplate)
        self._pools: dict[type[Any], Pool[Any]] = {
            pool.kind: pool
            for pool in (
                self.vms,
                self.hosts,
                self.images,
                self.datastores,
                self.networks,
                self.security_groups,
                self.templates,
            )
        }
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        # a killed process must find its rows again, a machine that lost power need not
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("CREATE TABLE IF NOT EXISTS pool (kind TEXT, id INT, body TEXT, PRIMARY KEY (kind, id))")
        self._database.execute("CREATE TABLE IF NOT EXISTS last_id (kind TEXT PRIMARY KEY, next INT)")
        for pool in self._pools.values():
            self._load(pool)

    def _load(self, pool: Pool[Any]) -> None:
        name = pool.kind.__name__
        for number, body in self._database.execute("SELECT id, body FROM pool WHERE kind = ?", (name,)):
            pool.objects[number] = pool.adapter.validate_json(body)
        for (number,) in self._database.execute("SELECT next FROM last_id WHERE kind = ?", (name,)):
            pool.next_id = number

    def new_id(self, pool: Pool[Any]) -> int:
        """A fresh id for that pool."""
        number = pool.next_id
        pool.next_id += 1
        self._database.execute(
            "INSERT INTO last_id VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET next = excluded.next",
            (pool.kind.__name__, pool.next_id),
        )
        return number

    def save(self, item: Stored) -> None:
        """Makes the object durable as it is now."""
        pool = self._pools[type(item)]
        pool.objects[item.id] = item
        self._database.execute(
            "INSERT INTO pool VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (pool.kind.__name__, item.id, pool.adapter.dump_json(item).decode()),
        )

    def delete(self, item: Stored) -> None:
        """Forgets the object."""
        pool = self._pools[type(item)]
        del pool.objects[item.id]
        self._database.execute("DELETE FROM pool WHERE kind = ? AND id = ?", (pool.kind.__name__, item.id))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
