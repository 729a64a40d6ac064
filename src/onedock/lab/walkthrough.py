"""The walkthrough: datastore, image, network, host and VM by OpenNebula's commands, then a death and a resume.

Every command is shown with what it prints, so that it can be typed again. What exists already is left as it is.
"""

import os
import re
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element

from onedock.lab import web_image
from onedock.lab.errors import LabError
from onedock.lab.layout import Choices, Layout
from onedock.lab.one_cli.client import CommandError, document
from onedock.lab.settings_file import host_name
from onedock.lab.unix_http import ask

WEB = "library/web:1"
_SECONDS = 60.0
_ACTIVE, _POWEROFF, _RUNNING = "3", "8", "3"
_IMAGE_READY, _IMAGE_USED, _IMAGE_ERROR = "1", "2", "5"
_HOST_MONITORED = "2"


class Walkthrough:
    """One run of it."""

    def __init__(self, layout: Layout, choices: Choices, say: Callable[[str], None]) -> None:
        self._layout = layout
        self._choices = choices
        self._say = say
        self._environment = os.environ | layout.environment(choices) | {"PATH": layout.path, "COLUMNS": "110"}
        self._directory = layout.state / "walkthrough"
        self._directory.mkdir(exist_ok=True)
        os.environ.update(layout.environment(choices))  # the client of the one* commands reads it there

    def run(self) -> int:
        """All of it; returns the VM's id. Raises LabError."""
        try:
            self._furnish()
            vm = self._deploy()
            self._look(vm)
            self._kill_and_resume(vm)
        except CommandError as error:
            raise LabError(f"{error}; log: {self._layout.log('opennebula')}") from error
        return vm

    def _furnish(self) -> None:
        registry = f"127.0.0.1:{self._choices.registry_port}"
        self._title("An image in a local registry: busybox with one web page")
        web_image.push(registry, WEB)
        self._say(f"pushed {registry}/{WEB}")
        self._title("Datastores: one for images, one for the VMs on the hosts")
        self._create("onedatastore", "onedock", 'NAME="onedock"\nDS_MAD="onedock"\nTM_MAD="onedock"')
        self._create("onedatastore", "onedock-system", 'NAME="onedock-system"\nTYPE="SYSTEM_DS"\nTM_MAD="onedock"')
        self._title("Image")
        image = f'NAME="web"\nPATH="docker://{registry}/{WEB}"\nTYPE="OS"\nDESCRIPTION="A web page"'
        self._create("oneimage", "web", image, "-d", "onedock")
        self._wait("image web is READY", lambda: self._image_state() in {_IMAGE_READY, _IMAGE_USED})
        self._command("oneimage list")
        self._title("Virtual network")
        subnet = self._choices.subnet
        network = [
            'NAME="private"', 'VN_MAD="bridge"', f'BRIDGE="{self._choices.bridge}"', f'NETWORK_ADDRESS="{subnet}.0"',
            'NETWORK_MASK="255.255.255.0"', f'GATEWAY="{subnet}.1"', f'DNS="{subnet}.1"',
            f'AR=[TYPE="IP4", IP="{subnet}.10", SIZE="100"]',
        ]  # fmt: skip
        self._create("onevnet", "private", "\n".join(network))
        self._title("Host: this machine")
        if self._find("one.hostpool.info", host_name()) is None:
            self._command(f"onehost create {shlex.quote(host_name())} -i onedock -v onedock")
        else:
            self._say(f"host {host_name()} is there already")
        self._wait("the host is monitored", lambda: self._host().findtext("STATE") == _HOST_MONITORED)
        self._wait("its capacity is known", lambda: self._host().findtext("HOST_SHARE/TOTAL_CPU", "0") != "0")
        self._command("onehost list")

    def _deploy(self) -> int:
        self._title("A VM, which is a container")
        present = self._find("one.vmpool.info", "web-1")
        if present is None:
            self._command("onevm create --name web-1 --memory 512 --cpu 1 --disk web --nic private --net_context")
            present = self._find("one.vmpool.info", "web-1")
            if present is None:
                raise LabError("the VM that was just created is not in OpenNebula's list; see the log of opennebula")
        vm = int(present.findtext("ID", ""))
        if present.findtext("STATE") == _POWEROFF:
            self._command(f"onevm resume {vm}")
        self._wait(f"VM {vm} is RUNNING", lambda: self._is_running(vm), about=vm)
        self._command("onevm list")
        return vm

    def _look(self, vm: int) -> None:
        self._title("It answers on its own address")
        self._get(vm)
        self._title("What ONEDock knows")
        self._command("onedock status")
        self._command(f"onedock status {vm}")

    def _kill_and_resume(self, vm: int) -> None:
        self._title("Its process is killed, as a crash or an out-of-memory would do it")
        pid = ask(self._layout.run / "api.sock", "GET", f"/vms/{vm}")["observed"]["container"]["pid"]
        began = time.monotonic()
        self._command(f"kill -9 {pid}")
        self._wait(f"VM {vm} is POWEROFF", lambda: self._vm(vm).findtext("STATE") == _POWEROFF, about=vm)
        self._say(f"OpenNebula shows it after {(time.monotonic() - began) * 1000:.0f} ms")
        self._command("onevm list")
        self._command(f"onedock log {vm} -n 4")
        self._title("And resumed: same container, same address, same root disk")
        self._command(f"onevm resume {vm}")
        self._wait(f"VM {vm} is RUNNING", lambda: self._is_running(vm), about=vm)
        self._get(vm)

    def _create(self, command: str, name: str, template: str, *options: str) -> None:
        """``<command> create`` with a template file, unless there is one of that name."""
        pool = {"onedatastore": "datastore", "oneimage": "image", "onevnet": "vn"}[command]
        if self._find(f"one.{pool}pool.info", name) is not None:
            self._say(f"{pool} {name} is there already")
            return
        file = self._directory / f"{name}.tmpl"
        file.write_text(f"{template}\n")
        self._command(f"cat {shlex.quote(file.name)}")
        self._command(shlex.join([command, "create", *options, file.name]))

    def _command(self, line: str) -> None:
        """Show a command, run it, show what it printed. Raises LabError when it fails."""
        self._say(f"\n$ {line}")
        ended = subprocess.run(
            shlex.split(line), check=False, capture_output=True, text=True, env=self._environment, cwd=self._directory
        )
        output = f"{ended.stdout}{ended.stderr}".rstrip()
        if output:
            self._say(output)
        if ended.returncode != 0:
            raise LabError(
                f"{line} failed with status {ended.returncode}: {output[-200:]}; see {self._layout.state}/log"
            )

    def _get(self, vm: int) -> None:
        address = self._vm(vm).findtext("TEMPLATE/NIC/IP", "")
        page: list[str] = []

        def answered() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/", timeout=5) as response:
                    page.append(response.read().decode())
            except OSError:
                return False
            return True

        self._wait(f"http://{address}/ answers", answered, about=vm)
        self._say(f"\n$ wget -qO- http://{address}/\n{page[0].rstrip()}")

    def _wait(self, what: str, condition: Callable[[], bool], *, about: int | None = None) -> None:
        deadline = time.monotonic() + _SECONDS
        while not condition():
            if time.monotonic() > deadline:
                why = self._reason(about)
                raise LabError(f"not within {_SECONDS:.0f} s: {what}{why}; logs: {self._layout.state}/log")
            time.sleep(0.05)

    def _reason(self, vm: int | None) -> str:
        if vm is None:
            return ""
        text = self._vm(vm).findtext("USER_TEMPLATE/ERROR") or self._vm(vm).findtext("USER_TEMPLATE/SCHED_MESSAGE")
        return f" ({re.sub(' +', ' ', text)})" if text else f" (try: onedock log {vm})"

    def _find(self, pool: str, name: str) -> Element | None:
        arguments = [] if pool in {"one.hostpool.info", "one.datastorepool.info"} else [-2, -1, -1]
        if pool == "one.vmpool.info":
            arguments += [-1]
        return next((item for item in document(pool, *arguments) if item.findtext("NAME") == name), None)

    def _image_state(self) -> str:
        image = self._find("one.imagepool.info", "web")
        state = image.findtext("STATE", "") if image is not None else ""
        if image is not None and state == _IMAGE_ERROR:
            raise LabError(
                f"image web is in ERROR: {image.findtext('TEMPLATE/ERROR')}; oneimage delete web, then try again"
            )
        return state

    def _host(self) -> Element:
        host = self._find("one.hostpool.info", host_name())
        if host is None:
            raise LabError(f"host {host_name()} has gone from OpenNebula; create it again")
        return host

    def _vm(self, vm: int) -> Element:
        return document("one.vm.info", vm)

    def _is_running(self, vm: int) -> bool:
        document = self._vm(vm)
        return (document.findtext("STATE"), document.findtext("LCM_STATE")) == (_ACTIVE, _RUNNING)

    def _title(self, text: str) -> None:
        self._say(f"\n\033[1m── {text}\033[0m" if os.isatty(1) else f"\n── {text}")


def farewell(layout: Layout, vm: int) -> str:
    """What to try next."""
    here = Path.cwd()
    env = layout.state / "env"
    shown = env.relative_to(here) if env.is_relative_to(here) else env
    return f"""
── It stays up until  make demo-stop.  To go on in this shell (as root):

  . {shown}                            # PATH, ONE_XMLRPC, ONE_AUTH, ONEDOCK_CONFIG
  onevm list;  onevm show {vm}
  onevm reboot {vm};  onevm poweroff {vm};  onevm resume {vm};  onevm terminate {vm}
  onevm create --name web-2 --memory 128 --cpu 0.5 --disk web --nic private --net_context
  onedock status;  onedock status {vm};  onedock log {vm};  onedock log --follow
  onedock health;  onedock metrics
  ip netns exec one-{vm} ip address;  kill -9 $(cat {layout.state}/pid/controller); make demo   # heals

  Logs: {layout.state}/log     Images: PATH="docker://…" takes any registry that this machine reaches"""
