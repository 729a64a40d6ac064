"""oned's end of the real driver processes, with the real controller behind: any bytes can be sent."""

import base64
import zlib
from typing import Self
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tests.support.cloud import Cloud
from tests.support.driver_process import NATIVE, DriverProcess
from tests.support.waiting import eventually


class FakeOned:
    """``async with FakeOned(cloud, "vmm") as oned:`` is the controller's newest driver, until it is left."""

    def __init__(self, cloud: Cloud, kind: str) -> None:
        self._cloud = cloud
        self.driver = DriverProcess(f"--socket {cloud.directory / 'driver.sock'}", command=(*NATIVE, kind))

    async def __aenter__(self) -> Self:
        self._gone = self._cloud.controller.log_text().count("driver gone")
        self.driver.handshake()
        return self

    async def __aexit__(self, *_: object) -> None:
        # What the driver wrote and could not yet confirm would wait for the next driver.
        await eventually(lambda: self._cloud.view("/health")["undelivered"] == 0, what="all is confirmed")
        self.driver.__exit__()
        now = self._gone + 1
        await eventually(
            lambda: self._cloud.controller.log_text().count("driver gone") >= now, what="the controller noticed"
        )

    def say(self, line: str | bytes) -> None:
        """Send one line."""
        self.driver.write((line.encode() if isinstance(line, str) else line) + b"\n", within=30)

    def answer(self, action: str, vm: int) -> tuple[bool, str]:
        """Read up to the answer for a VM: whether it is a success, and its text."""
        while True:
            words = self.driver.read_line().decode().split(" ", 3)
            if words[0] == action and words[2] == str(vm):
                return words[1] == "SUCCESS", words[3]

    def complaint(self) -> str:
        """Read up to a line for oned's own log."""
        while True:
            words = self.driver.read_line().decode().split(" ", 3)
            if words[:3] == ["LOG", "E", "-1"]:
                return words[3]

    def ask(self, action: str, vm: int, xml: str | bytes) -> tuple[bool, str]:
        """Send one request and read its answer."""
        self.say(request(action, vm, xml))
        return self.answer(action, vm)


def request(action: str, vm: int, xml: str | bytes) -> str:
    """A line for the VMM driver (protocol reference 1.2)."""
    return f"{action}  {vm} {base64.b64encode(xml.encode() if isinstance(xml, str) else xml).decode()}"


def im_request(action: str, host: int, xml: str | bytes) -> str:
    """A line for the IM driver."""
    data = zlib.compress(xml.encode() if isinstance(xml, str) else xml)
    return f"{action} - {host} 0 {base64.b64encode(data).decode()}"


async def deploy_document(cloud: Cloud, vm: int) -> Element:
    """What oned would send with DEPLOY for a VM that it holds, to be altered."""
    document = await cloud.one.vm(vm)
    for path, text in (("STATE", "3"), ("LCM_STATE", "2")):
        element = document.find(path)
        assert element is not None
        element.text = text
    root = ElementTree.Element("VMM_DRIVER_ACTION_DATA")
    ElementTree.SubElement(root, "HOST").text = "node1"
    root.append(document)
    return root
