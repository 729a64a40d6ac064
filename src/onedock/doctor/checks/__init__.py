"""One file, one check. ``ALL`` is the order in which they are shown: causes before what they bring about."""

from onedock.doctor.checks import (
    agent,
    cgroups,
    clocks,
    controller,
    datastores,
    drivers,
    engine,
    hosts,
    kernel,
    leftovers,
    live_restore,
    oned,
    registry,
    runtime,
    space,
    users,
    vms,
)
from onedock.doctor.finding import Check

ALL: dict[str, Check] = {
    "controller": controller.check,
    "space": space.check,
    "oned": oned.check,
    "drivers": drivers.check,
    "hosts": hosts.check,
    "datastores": datastores.check,
    "users": users.check,
    "registry": registry.check,
    "engine": engine.check,
    "runtime": runtime.check,
    "live-restore": live_restore.check,
    "agent": agent.check,
    "kernel": kernel.check,
    "cgroups": cgroups.check,
    "clocks": clocks.check,
    "leftovers": leftovers.check,
    "vms": vms.check,
}
