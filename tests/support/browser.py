"""A headless Chromium, driven through its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import asyncio
import base64
import os
import shutil
import signal
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from tests.support import processes
from tests.support.waiting import eventually

CHROMIUM = shutil.which("chromium")
ANSWER_S = 20.0

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    "--remote-debugging-port=0",
    "--disable-lcd-text",
    "--hide-scrollbars",
)


def why_not() -> str:
    """Why there is no browser; empty when there is one."""
    return "" if CHROMIUM else "chromium is not installed"


class Browser:
    """``async with Browser() as browser:`` has one empty page of 1280 x 800 in a profile of its own."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix=f"{processes.RUN}-browser-", dir="/var/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._ids = count(1)
        self.complaints: list[str] = []
        """What the browser refused or the page's script threw, as a person would see it in the console."""

    async def __aenter__(self) -> Self:
        """Start it and attach to its page."""
        assert CHROMIUM is not None
        try:
            self._process = self._start(CHROMIUM)
            self._socket = await self._http.ws_connect(await eventually(self._page, within=ANSWER_S), max_msg_size=0)
            for domain in ("Page", "Runtime", "Log"):
                await self.call(f"{domain}.enable")
            await self.call(
                "Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False
            )
        except BaseException as error:
            error.add_note((self._directory / "log").read_text(errors="replace")[-2000:])
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process of it and remove the profile."""
        await self._http.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
        processes.remove_tree(self._directory)

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("wb") as log:
            return subprocess.Popen(
                [program, *_FLAGS, f"--user-data-dir={self._directory}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": str(self._directory)},
                start_new_session=True,
            )

    async def _page(self) -> str | None:
        """The address of the page's socket, once there is one."""
        try:
            port = (self._directory / "DevToolsActivePort").read_text().split()[0]
            async with self._http.get(f"http://127.0.0.1:{port}/json/list") as response:
                targets = await response.json()
        except (OSError, IndexError, aiohttp.ClientError):
            return None
        return next((str(each["webSocketDebuggerUrl"]) for each in targets if each["type"] == "page"), None)

    async def call(self, method: str, **params: Any) -> Any:
        """One command; returns its result, keeps complaints that come in between."""
        assert self._socket is not None
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=ANSWER_S)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            match message.get("method"):
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(message["params"]["exceptionDetails"]))
                case "Log.entryAdded":
                    self.complaints.append(str(message["params"]["entry"]["text"]))

    async def open(self, url: str) -> None:
        """Go to an address."""
        result = await self.call("Page.navigate", url=url)
        assert "errorText" not in result, result["errorText"]

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def text(self, selector: str) -> str:
        """The text of the first element that a selector finds; empty when there is none."""
        return str(await self.run(f"document.querySelector({selector!r})?.textContent ?? ''"))

    async def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element."""
        element = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y = await self.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def colours(self, scheme: str) -> None:
        """What the page is told of the user's preference: light or dark."""
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
