"""``python -m onedock.lab.opennebula``: one OpenNebula in the foreground."""

import argparse
import asyncio
import os
import secrets
import signal
import socket
import sys
from pathlib import Path

from aiohttp import web

from onedock.lab.opennebula import bootstrap, xmlrpc
from onedock.lab.opennebula.api_hotplug import HotplugApi
from onedock.lab.opennebula.api_networks import NetworkApi
from onedock.lab.opennebula.api_pools import PoolApi
from onedock.lab.opennebula.api_vms import VmApi
from onedock.lab.opennebula.images import Images
from onedock.lab.opennebula.logs import Logs
from onedock.lab.opennebula.mad import DriverStartError
from onedock.lab.opennebula.monitor import GUARD_SECONDS
from onedock.lab.opennebula.monitor_configuration import MonitorSettings
from onedock.lab.opennebula.monitord import Monitord
from onedock.lab.opennebula.oned import Oned
from onedock.lab.opennebula.scheduler import Scheduler
from onedock.lab.opennebula.scripts import Scripts
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.transfer import Places

DATASTORE_PERIOD_SECONDS = 300
MANAGER_TIMER_SECONDS = 15


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="onedock-lab-opennebula", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="state, logs and VM files")
    parser.add_argument("--port", type=int, required=True, help="XML-RPC port on the loopback address")
    parser.add_argument("--monitor-port", type=int, required=True, help="UDP and TCP port of monitord")
    parser.add_argument("--vmm", required=True, help="VMM driver: executable and arguments")
    parser.add_argument("--im", required=True, help="IM driver: executable and arguments")
    parser.add_argument("--remotes", type=Path, required=True, help="directory with tm/ and datastore/")
    parser.add_argument("--auth-file", type=Path, help="user:password; made in --dir when not given")
    parser.add_argument("--name", default="onedock", help="name of the drivers")
    parser.add_argument("--hostname", default=socket.gethostname(), help="name of the front-end in transfer lines")
    parser.add_argument("--guard", type=float, default=GUARD_SECONDS, help="seconds that protect a fresh VM state")
    parser.add_argument("--host-interval", type=float, default=180, help="seconds of silence of a host")
    parser.add_argument("--no-scheduler", action="store_true", help="VMs wait for one.vm.deploy")
    return parser.parse_args()


def _command(text: str) -> tuple[str, str]:
    executable, _, arguments = text.strip().partition(" ")
    return executable, arguments.strip()


def _session(options: argparse.Namespace) -> str:
    path: Path = options.auth_file or options.dir / "one_auth"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"oneadmin:{secrets.token_hex(16)}\n")
    return path.read_text().strip()


async def _monitor_datastores(store: Store, images: Images) -> None:
    while True:
        await asyncio.sleep(DATASTORE_PERIOD_SECONDS)
        for datastore in list(store.datastores.objects.values()):
            await images.monitor(datastore)


async def serve(options: argparse.Namespace) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        DriverStartError: A driver does not start.
        OSError: A port is taken.
    """
    directory: Path = options.dir
    places = Places(str(directory), f"{directory}//datastores", options.hostname)
    session = _session(options)
    logs = Logs(directory / "log")
    store = Store(directory / "one.db")
    bootstrap.fill(store, places.datastores)
    scripts = Scripts(options.remotes, directory)
    images = Images(store, scripts, logs, places.datastores)
    oned = Oned(store, places, scripts, images, logs, _command(options.vmm))
    settings = MonitorSettings(
        options.monitor_port,
        guard=options.guard,
        host_interval=options.host_interval,
        timer=min(MANAGER_TIMER_SECONDS, options.host_interval),
    )
    monitord = Monitord(oned, options.name, _command(options.im), settings, logs)
    scheduler = Scheduler(oned, options.name)
    vms = VmApi(oned, scheduler.wake)
    methods = vms.methods() | HotplugApi(oned, vms).methods() | NetworkApi(oned, vms).methods()
    methods |= PoolApi(store, images, monitord).methods()
    await oned.start()
    await monitord.start()
    runner = web.AppRunner(xmlrpc.application(methods, session))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port).start()
    loops = [monitord.run(), _monitor_datastores(store, images)]
    if not options.no_scheduler:
        loops.append(scheduler.run())
    tasks = [asyncio.create_task(work) for work in loops]
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # a loop that fails ends the whole process: better no OpenNebula than half of one
    failed, _ = await asyncio.wait([asyncio.create_task(ended.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await runner.cleanup()
    images.stop()
    await monitord.stop()
    await oned.stop()
    store.close()
    for over in failed:
        over.result()


def main() -> None:
    """Entry point."""
    os.umask(0o022)
    options = _arguments()
    options.dir, options.remotes = options.dir.resolve(), options.remotes.resolve()
    options.dir.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(serve(options))
    except (DriverStartError, OSError) as error:
        sys.exit(f"OpenNebula cannot start: {error}")


if __name__ == "__main__":
    main()
