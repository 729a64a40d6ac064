"""The web page in a real browser: what it shows, what it runs, and whom the port refuses.

``ONEDOCK_TEST_SCREENSHOT=docs/web.png`` keeps the picture for the documents.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.support import browser as browsers
from tests.support.browser import Browser
from tests.support.cloud import Cloud
from tests.support.engine import PrivateEngine
from tests.support.ports import free_ports
from tests.support.registry import PrivateRegistry
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


class Site:
    """A cloud whose controller serves the page."""

    def __init__(self, cloud: Cloud, port: int, image: int) -> None:
        self.cloud, self.port, self.image = cloud, port, image
        self.url = f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Site]:
    [port] = free_ports(1)
    # The variable of one setting is the only way in beside the fixture's own [controller] table.
    os.environ["ONEDOCK_CONTROLLER__WEB_PORT"] = str(port)
    try:
        async with Cloud(engine, registry) as cloud:
            yield Site(cloud, port, await cloud.image("page"))
    finally:
        del os.environ["ONEDOCK_CONTROLLER__WEB_PORT"]


@pytest.mark.skipif(bool(browsers.why_not()), reason=browsers.why_not())
async def test_shows_nodes_vms_an_explanation_and_the_log_as_it_grows(site: Site) -> None:
    cloud = site.cloud
    hostile = await cloud.running_vm(site.image, name=HOSTILE)
    other = await cloud.running_vm(site.image, name="web-2")
    await cloud.settled()
    async with Browser() as browser:

        async def shows(selector: str, text: str) -> None:
            async def there() -> bool:
                return text in await browser.text(selector)

            await eventually(there, within=20, what=f"{selector} shows {text!r}")

        await browser.open(f"{site.url}/")
        await shows("#vm-rows", "web-2")
        await shows("#node-rows", "node1")
        row = f'#vm-rows tr:has(a[href="#{hostile}"])'
        addresses = next(vm["addresses"] for vm in cloud.view("/vms") if vm["vm"] == hostile)
        assert await browser.text(f"{row} td:nth-child(2)") == HOSTILE
        assert await browser.text(f"{row} td:nth-child(4)") == "running"
        assert await browser.text(f"{row} td:nth-child(5)") == addresses[0].split("/")[0]
        await shows("#log-lines", f"VM {hostile} ")
        await shows("#log-lines", f"VM {other} ")

        await browser.click(row)
        await shows("#detail-title", HOSTILE)
        await shows("#detail-body", "Observed now")
        await shows("#log-title", f"Log of VM {hostile}")
        await shows("#log-lines", "action done")
        assert f"VM {other} " not in await browser.text("#log-lines")
        await cloud.action(hostile, "poweroff-hard")
        await cloud.reaches(hostile, VmState.POWEROFF)
        await shows("#log-lines", "StopContainer")
        await shows(f"{row} td:nth-child(4)", "stopped")
        await shows("#detail-body", "POWEROFF")

        await browser.run("location.hash = ''")
        await shows("#log-lines", f"VM {other} ")
        assert await browser.run("document.scripts.length") == 1
        assert await browser.run("document.images.length") == 0
        assert await browser.run("document.title") == "ONEDock"
        assert await browser.run("document.documentElement.scrollHeight <= innerHeight"), "it fits into 1280 x 800"
        bottom = "document.querySelector('{}').getBoundingClientRect().bottom"
        assert await browser.run(f"{bottom.format('#vms')} <= {bottom.format('main')}")
        light = await browser.run("getComputedStyle(document.body).backgroundColor")
        await browser.colours("dark")
        assert await browser.run("getComputedStyle(document.body).backgroundColor") != light
        assert browser.complaints == []

        with pytest.raises(AssertionError, match="Trusted"):
            await browser.run("document.body.innerHTML = '<b>text</b>'")


@pytest.mark.skipif("ONEDOCK_TEST_SCREENSHOT" not in os.environ, reason="no picture is asked for")
async def test_has_its_picture_taken(site: Site) -> None:
    cloud = site.cloud
    first, _, last = [
        await cloud.running_vm(site.image, name=name) for name in ("shop", "shop-db", "<script>x</script>")
    ]
    await cloud.settled()
    container = cloud.container(last)
    assert container is not None
    cloud.engine.api("POST", f"/containers/{container['Id']}/kill")
    await cloud.reaches(last, VmState.POWEROFF)
    await cloud.settled()
    async with Browser() as browser:
        await browser.open(f"{site.url}/#{first}")

        async def ready() -> bool:
            return "Observed" in await browser.text("#detail-body") and bool(await browser.text("#vm-rows"))

        await eventually(ready, within=20, what="the page is filled")
        Path(os.environ["ONEDOCK_TEST_SCREENSHOT"]).write_bytes(await browser.picture())


async def test_is_there_for_those_on_this_machine_who_only_look(site: Site) -> None:
    async with aiohttp.ClientSession() as http:

        async def status(method: str, path: str, host: str = "") -> int:
            headers = {"Host": host} if host else {}
            async with http.request(method, site.url + path, headers=headers) as response:
                assert response.headers["Cache-Control"] == "no-store"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert "Access-Control-Allow-Origin" not in response.headers
                return response.status

        assert [await status(method, "/") for method in ("GET", "HEAD")] == [200, 200]
        assert [await status(method, "/") for method in ("POST", "PUT", "DELETE", "OPTIONS")] == [405] * 4
        assert [await status("POST", f"/intents/1/{verb}") for verb in ("retry", "drop")] == [404, 404]
        assert [await status("GET", path) for path in ("/intents", "/plan", "/metrics", "/registry")] == [404] * 4
        for host in ("localhost", "LOCALHOST:9000", "127.0.0.1", f"127.0.0.1:{site.port}"):
            assert await status("GET", "/vms", host) == 200
        for host in ("evil.example", f"evil.example:{site.port}", "127.0.0.1.evil.example", "localhost@evil", "[::1]"):
            assert await status("GET", "/vms", host) == 403
            assert await status("GET", "/", host) == 403


async def test_listens_on_loopback_only(site: Site) -> None:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{site.port:04X}")]
    assert listening == [f"0100007F:{site.port:04X}"]
    assert f":{site.port:04X} " not in Path("/proc/net/tcp6").read_text()


async def test_an_open_page_does_not_hold_up_the_end_of_the_controller(site: Site) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{site.url}/log?follow"):
        await asyncio.wait_for(asyncio.to_thread(site.cloud.controller.stop), 8)
    await asyncio.to_thread(site.cloud.controller.start)
    async with aiohttp.ClientSession() as http, http.get(f"{site.url}/") as response:
        assert response.status == 200


async def test_a_port_that_is_taken_costs_the_page_and_nothing_else(site: Site) -> None:
    controller = site.cloud.controller
    await asyncio.to_thread(controller.stop)
    with socket.create_server(("127.0.0.1", site.port)):
        await asyncio.to_thread(controller.start)
        await site.cloud.settled()
        assert "web page is not served" in controller.log_text()
