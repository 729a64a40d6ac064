"""The lab's Linux bridge in the machine's network: VMs are plugged into it, and the machine itself is their gateway."""

import ipaddress
import json
import subprocess
from pathlib import Path
from typing import Any

from onedock.lab.errors import LabError
from onedock.lab.layout import Choices, Layout

_SUBNETS = [f"10.{second}.{third}" for second in range(199, 220) for third in range(7, 250, 40)]


def choose(layout: Layout) -> tuple[str, str]:
    """A free name and a free /24 (its first three bytes); a bridge that this lab left behind keeps both."""
    links = _ip("link")
    taken = [ipaddress.ip_network(route["dst"]) for route in _ip("-4", "route") if route["dst"] != "default"]
    taken += [
        ipaddress.ip_interface(f"{address['local']}/{address['prefixlen']}").network
        for link in _ip("-4", "address")
        for address in link["addr_info"]
    ]
    remove(layout)
    names = {link["ifname"] for link in links}
    name = next(name for name in map("odlab{}".format, range(1000)) if name not in names or _is_ours(layout, name))
    for subnet in _SUBNETS:
        if not any(ipaddress.ip_network(f"{subnet}.0/24").overlaps(other) for other in taken):
            return name, subnet
    raise LabError("no free subnet: routes of this machine cover all that the lab tries (10.199.0.0 to 10.219.255.0)")


def ensure(layout: Layout, choices: Choices) -> None:
    """Have it, up, with its address. Raises LabError when another link has the name."""
    name = choices.bridge
    if not Path("/sys/class/net", name).exists():
        _run("link", "add", name, "type", "bridge")
        _run("link", "set", name, "alias", _alias(layout))
    elif not _is_ours(layout, name):
        raise LabError(f"link {name} exists and is not this lab's; remove it, or make demo-stop and try again")
    _run("address", "replace", f"{choices.subnet}.1/24", "dev", name)
    _run("link", "set", name, "up")


def remove(layout: Layout) -> None:
    """Remove every bridge of this lab; absent is success."""
    for directory in Path("/sys/class/net").glob("odlab*"):
        if _is_ours(layout, directory.name):
            _run("link", "delete", directory.name)


def _is_ours(layout: Layout, name: str) -> bool:
    alias = Path("/sys/class/net", name, "ifalias")
    return alias.exists() and alias.read_text().strip() == _alias(layout)


def _alias(layout: Layout) -> str:
    """Not the directory itself: an alias has at most 255 bytes."""
    return f"onedock lab {layout.key}"


def _ip(*arguments: str) -> list[dict[str, Any]]:
    answer = subprocess.run(["ip", "-json", *arguments], check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(answer.stdout or "[]")
    return found


def _run(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise LabError(f"ip {' '.join(arguments)} failed: {error.stderr.strip()}; is this a container?") from error
