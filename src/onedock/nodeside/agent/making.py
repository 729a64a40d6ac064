"""One VM's network made in the kernel, with who hears what is done there: our own doing makes nothing due."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from onedock.nodeside.agent import namespaces, netlink
from onedock.nodeside.agent.firewall.loaded import LOADED
from onedock.nodeside.agent.healing import together
from onedock.nodeside.agent.healing.healer import Healer
from onedock.nodeside.agent.healing.watch import Watch
from onedock.nodeside.agent.neighbours.announce import announce, newly_placed
from onedock.nodeside.agent.seen import Seen
from onedock.nodeside.agent.steps import LoadRules, Scope, Step
from onedock.nodeside.agent.steps.words import in_words
from onedock.nodeside.agent.store import Store
from onedock.reconcilers.model import Network, Nic, VmId, namespace_name

log = structlog.get_logger()

Words = tuple[str, ...]
"""Steps, a line each."""


@dataclass(frozen=True, slots=True)
class Made:
    """What has become of a network."""

    network: Network | None
    """With what only the node knows; None: something was changed since."""
    seen: Seen
    """When nothing was to be done any more."""
    steps: Words
    others: Mapping[VmId, Words]
    """Steps for other VMs on its bridges."""


class Maker:
    """Synchronous, in threads that belong to namespaces."""

    def __init__(self, store: Store, watch: Watch, healer: Healer) -> None:
        self._store = store
        self._watch = watch
        self._healer = healer
        # One: of two VMs that had an address one after the other, the last one is heard last.
        self._announcer = ThreadPoolExecutor(1, thread_name_prefix="announce")

    def close(self) -> None:
        """Let announcements that have begun end."""
        self._announcer.shutdown()

    def make(self, network: Network, earlier: Network) -> Made:
        """See ``netlink.ensure``: every look comes after all that was heard. Then the neighbours begin to be told."""
        done: list[Step] = []

        def changed(steps: tuple[Step, ...]) -> None:
            done.extend(steps)
            self._settle(network.vm)

        named = self._settle(network.vm)
        seen = netlink.ensure(network, changed, earlier)
        if placed := newly_placed(network, done):
            # The kernel brings each frame to all ports of a bridge before it goes on: nobody waits for hundreds.
            self._announcer.submit(self._announce, network.vm, placed)
        plugged, filtered = self._plug_others(network, done), self._filter_others(done)
        others = {vm: (*plugged.get(vm, ()), *filtered.get(vm, ())) for vm in plugged.keys() | filtered.keys()}
        return Made(network, seen, (*named, *map(in_words, done)), others)

    def _plug_others(self, network: Network, done: list[Step]) -> dict[VmId, Words]:
        """A bridge that came back has lost the ports of all its VMs."""
        bridges = together.joined(network, done)
        others = (kept.network for kept in self._store if kept.network.vm != network.vm and not kept.removing)
        loose = together.find_loose(bridges, others, self._watch.links()) if bridges else {}
        plugged = together.plug(loose) if loose else {}
        if plugged:
            self._settle(network.vm)
        return {vm: tuple(map(in_words, steps)) for vm, steps in plugged.items()}

    def _filter_others(self, done: list[Step]) -> dict[VmId, Words]:
        """Who flushes a ruleset takes the filters of all VMs away, and one after the other they would wait for long."""
        if not any(isinstance(step, LoadRules) and step.scope is Scope.NODE for step in done):
            return {}
        namespaces.enter_home()
        again = LOADED.load_again(self._watch.touched_filters())
        return {vm: (f"load rules {Scope.NODE} {digest}",) for vm, digest in again.items()}

    def _settle(self, vm: VmId) -> Words:
        named = self._watch.settle(vm)
        self._healer.clear(vm)
        return (f"put back name {namespace_name(vm)}",) if named else ()

    @staticmethod
    def _announce(vm: VmId, placed: tuple[Nic, ...]) -> None:
        namespaces.enter_home()
        try:
            announce(vm, placed)
        except FileNotFoundError:
            return  # the VM is gone already
        except OSError as error:
            log.warning("addresses cannot be announced", vm=vm, error=str(error))
        finally:
            namespaces.enter_home()  # else this thread would keep the VM's namespace
