"""Open vSwitch by its own tool: read what is there, change it, each in one call. Synchronous, for threads."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence

from onedock.nodeside.agent.ovs_rows import COLUMNS, OURS, OpenVswitch, SwitchPort, parse, vm_mark
from onedock.reconcilers.errors import TerminalError, TransientError
from onedock.reconcilers.model import VmId

_TOOL = "ovs-vsctl"
_TIMEOUT_S = 5
_OUR_LIMIT_S = 10
"""Should the tool's own limit not work."""
_RACES = ("already exists", "no row ", "no bridge named", "no port named", "is not a port")
"""What it says when the world has changed since it was looked at."""


class SilentSwitchError(TransientError):
    """It did not answer in time, so there is no use in asking again at once."""


def require() -> None:
    """TerminalError: it is not installed."""
    _program()


def read() -> OpenVswitch:
    """All bridges and ports, none where it is not installed. TransientError: it does not answer."""
    if shutil.which(_TOOL) is None:
        return OpenVswitch()
    words: list[str] = []
    for table, columns in COLUMNS.items():
        words += ["--", f"--columns={','.join(columns)}", "list", table]
    return parse(_vsctl(["--format=json", *words]))


def transact(commands: Sequence[str]) -> None:
    """Do all commands or none, and wait until the switch works so. TerminalError: refused; TransientError: not now."""
    _vsctl(commands)


def remove_ports(vm: VmId) -> None:
    """Remove all ports of a VM; their links may be gone already, and so may Open vSwitch."""
    remove([port.name for port in read().ports.values() if port.has_mark(vm_mark(vm))])


def remove(ports: Iterable[str], bridges: Iterable[str] = ()) -> None:
    """Remove ports and bridges as far as they are there."""
    commands = [["--if-exists", "del-port", name] for name in ports]
    commands += [["--if-exists", "del-br", name] for name in bridges]
    if commands:
        transact([word for command in commands for word in ("--", *command)])


def remove_unused(bridge: str, phydevs: frozenset[str]) -> tuple[tuple[SwitchPort, ...], bool]:
    """From a bridge that has no ports but shared ones remove what is ours; return those ports, and whether it went."""
    switch = read()
    ports = switch.ports_of(bridge)
    ours = tuple(port for port in ports if port.has_mark(OURS))
    if bridge not in switch.bridges or not all(port in ours or port.name in phydevs for port in ports):
        return (), False
    remove([port.name for port in ours], [bridge] if switch.bridges[bridge] else [])
    return ours, switch.bridges[bridge]


def _program() -> str:
    if program := shutil.which(_TOOL):
        return program
    raise TerminalError(
        f"{_TOOL} is missing on this node; install openvswitch-switch, or give the network another VN_MAD"
    )


def _vsctl(words: Sequence[str]) -> str:
    argv = [_program(), f"--timeout={_TIMEOUT_S}", *words]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=_OUR_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise SilentSwitchError(_silent(_OUR_LIMIT_S)) from None
    said = done.stderr.strip().replace("\n", "; ").removeprefix("ovs-vsctl: ")
    if done.returncode == 0:
        if said.startswith("Error detected while setting up"):
            raise TransientError(f"Open vSwitch could not do what it was told: {said[:300]}; it is tried again")
        return done.stdout
    if done.returncode < 0 or "Alarm clock" in said:
        raise SilentSwitchError(_silent(_TIMEOUT_S))
    if "database connection failed" in said:
        raise TransientError(f"Open vSwitch does not run on this node; systemctl start openvswitch-switch ({said})")
    if any(race in said for race in _RACES):
        raise TransientError(f"Open vSwitch was changed by others meanwhile: {said}; it is tried again")
    raise TerminalError(f"Open vSwitch refuses: {said[:300]}; correct the virtual network")


def _silent(seconds: int) -> str:
    return (
        f"Open vSwitch did not do it within {seconds} s; is ovs-vswitchd running (systemctl status openvswitch-switch)?"
    )
