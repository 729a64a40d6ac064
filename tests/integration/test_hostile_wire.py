"""Hostile bytes on the drivers' pipes and on every socket: a clear answer where one is possible, and life goes on."""

import asyncio
import base64
import contextlib
import json
import socket
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.cloud import NODE, Cloud
from tests.support.engine import PrivateEngine
from tests.support.fake_oned import FakeOned, im_request, request
from tests.support.registry import PrivateRegistry
from tests.support.unprivileged import UnprivilegedCloud, interpreter
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

MEGABYTE = 1 << 20
STRANGER = 2_000_000_000
"""A VM that OpenNebula does not have."""
ENTITIES = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
LAUGHS = f'<!DOCTYPE x [<!ENTITY l0 "ha">{ENTITIES}]><VMM_DRIVER_ACTION_DATA>&l11;</VMM_DRIVER_ACTION_DATA>'
EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><VMM_DRIVER_ACTION_DATA>&e;</VMM_DRIVER_ACTION_DATA>'
DEEP = "<VMM_DRIVER_ACTION_DATA>" + "<a>" * 500_000 + "</a>" * 500_000 + "</VMM_DRIVER_ACTION_DATA>"


def about(vm: int | str, more: str = "") -> str:
    """A document that is well formed; oned's have much more in them."""
    return f"<VMM_DRIVER_ACTION_DATA><HOST>{NODE}</HOST><VM><ID>{vm}</ID>{more}</VM></VMM_DRIVER_ACTION_DATA>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Cloud]:
    async with (UnprivilegedCloud if interpreter() else Cloud)(engine, registry) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image(cloud: Cloud) -> int:
    return await cloud.image("plain")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def life_goes_on(cloud: Cloud, image: int) -> AsyncIterator[None]:
    """After each test the same controller still deploys, and has nothing of what was sent."""
    pid = cloud.controller.pid
    yield
    assert cloud.controller.alive
    assert cloud.controller.pid == pid
    vm = await cloud.running_vm(image, nic=False)
    await cloud.action(vm, "terminate-hard")
    await cloud.reaches(vm, VmState.DONE)
    await cloud.settled()
    assert not [seen for seen in cloud.view("/vms") if seen["vm"] != vm]
    assert not cloud.engine.api("GET", "/containers/json?all=1")
    _, traceback, crash = cloud.controller.log_text().partition("Traceback")
    assert not traceback, crash[:2000]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (request("DEPLOY", STRANGER, b"\xff\xfe\x00"), "not UTF-8"),
        (f"DEPLOY  {STRANGER} %%%not-base64%%%", "not base64"),
        (f"DEPLOY  {STRANGER} \0\0\0", "not base64"),
        (f"DEPLOY  {STRANGER} ☃", "not base64"),
        (f"DEPLOY  {STRANGER} ", "not XML"),
        (request("DEPLOY", STRANGER, ""), "not XML"),
        (request("DEPLOY", STRANGER, "plain text"), "not XML"),
        (request("DEPLOY", STRANGER, "<VMM_DRIVER_ACTION_DATA><VM>"), "XML is broken"),
        (request("DEPLOY", STRANGER, LAUGHS), "DOCTYPE is refused"),
        (request("DEPLOY", STRANGER, EXTERNAL), "DOCTYPE is refused"),
        (request("DEPLOY", STRANGER, "<VMM_DRIVER_ACTION_DATA>&l9;</VMM_DRIVER_ACTION_DATA>"), "XML is broken"),
        (request("DEPLOY", STRANGER, "<VMM_DRIVER_ACTION_DATA>\0</VMM_DRIVER_ACTION_DATA>"), "XML is broken"),
        (request("DEPLOY", STRANGER, DEEP), "VMM_DRIVER_ACTION_DATA with a VM"),
        (request("DEPLOY", STRANGER, "<OTHER><VM/></OTHER>"), "<OTHER>"),
        (request("DEPLOY", STRANGER, about(1)), f"message for VM {STRANGER} contains VM 1"),
        (request("DEPLOY", STRANGER, about("1e9")), "ID is not a number"),
        (request("DEPLOY", STRANGER, about("٢")), "ID is not a number"),
        (request("DEPLOY", STRANGER, about(STRANGER, "<LCM_STATE>99999</LCM_STATE>")), "LCM state 99999"),
        (request("DEPLOY", STRANGER, about(STRANGER, f"<LCM_STATE>{'9' * 18}</LCM_STATE>")), "LCM state 9999"),
        (request("DEPLOY", STRANGER, about(STRANGER, f"<STIME>{'9' * 5000}</STIME>")), "STIME is not a number"),
        (request("DEPLOY", -1, about(-1)), "not supported yet"),
        (request("DEPLOY", 10**18 - 1, about(10**18 - 1, "<LCM_STATE>2</LCM_STATE>")), "VM"),
        (request("DEPLOY", -(10**17), about(-(10**17), "<LCM_STATE>2</LCM_STATE>")), "VM"),
        (request("EXPLODE", STRANGER, about(STRANGER)), "knows no action EXPLODE"),
        (request("X" * 64, STRANGER, about(STRANGER)), "knows no action XXX"),
        (f"DEPLOY  {STRANGER} {'A' * 40 * MEGABYTE}", "at most 32 MiB"),
    ],
    ids=lambda value: f"{len(value)}-{value[:30]}" if isinstance(value, str) else None,
)
async def test_a_request_that_cannot_be_read_fails(cloud: Cloud, line: str, said: str) -> None:
    action, vm = line.split()[:2]
    async with FakeOned(cloud, "vmm") as oned:
        oned.say(line)
        ok, text = oned.answer(action[:40], int(vm))
    assert not ok
    assert said in text[:200]


HEADLESS = [
    b"\xff\xfe\xfd",
    b"\0" * 5000,
    b"DEPLOY",
    b"DEPLOY  ",
    b"DEPLOY  x PA==",
    b"DEPLOY  9999999999999999999999 PA==",
    b"deploy  1 PA==",
    b"DEPLOY  1.5 PA==",
    b"../../bin/sh -c reboot",
    b"$(reboot)",
    b"A" * 100_000,
    b"DEPLOY  \xd9\xa2 PA==",
]


async def test_a_line_without_a_head_is_told_to_oned(cloud: Cloud) -> None:
    async with FakeOned(cloud, "vmm") as oned:
        for line in HEADLESS:
            oned.say(line)
            assert "not understood" in oned.complaint()


async def test_thousands_of_lines_of_garbage(cloud: Cloud) -> None:
    """oned writes with blocking writes: the driver must keep reading while nobody reads what it says."""
    async with FakeOned(cloud, "vmm") as oned:
        for start in range(0, 5000, 100):
            batch = [f"GARBAGE {n} \x7f\x01 %s" if n % 2 else f"DEPLOY  {n} ===" for n in range(start, start + 100)]
            oned.say("\n".join(batch))
        ok, text = await asyncio.to_thread(oned.answer, "DEPLOY", 4998)
        assert not ok
        assert "not base64" in text


FOR_MONITORING = [
    b"\xff\xfe",
    b"\0" * 1000,
    b"START_MONITOR",
    b"START_MONITOR - x 0 AAAA",
    b"START_MONITOR - 0 0 not-base64!",
    b"START_MONITOR - 0 0 " + base64.b64encode(b"not zlib"),
    b"START_MONITOR - 0 0 " + base64.b64encode(zlib.compress(b"x" * 200 * MEGABYTE)),
    b"START_MONITOR - 0 0 " + base64.b64encode(zlib.compress(b"<HOST/>")[:-3]),
    im_request("START_MONITOR", 0, b"\xff").encode(),
    im_request("START_MONITOR", 0, LAUGHS).encode(),
    im_request("START_MONITOR", 0, EXTERNAL).encode(),
    im_request("START_MONITOR", 0, "<X><HOST><ID>zero</ID><NAME>node1</NAME></HOST></X>").encode(),
    im_request("EXPLODE", 0, "<X/>").encode(),
    b"START_MONITOR - 0 0 " + b"A" * 40 * MEGABYTE,
]


async def test_monitord_may_say_anything(cloud: Cloud) -> None:
    def refused() -> int:
        return cloud.controller.log_text().count("a line of monitord")

    async with FakeOned(cloud, "im") as monitord:
        for line in FOR_MONITORING:
            before = refused()
            monitord.say(line)
            await eventually(lambda before=before: refused() > before, what=f"{line[:60]!r} was refused")  # type: ignore[misc]


async def test_a_host_that_is_no_node_is_refused(cloud: Cloud) -> None:
    async with FakeOned(cloud, "im") as monitord:
        for name in ("../../etc", "$(reboot)", "no-such-node", "x" * 10_000):
            monitord.say(im_request("START_MONITOR", 77, f"<X><HOST><ID>77</ID><NAME>{name}</NAME></HOST></X>"))
            while not (line := monitord.driver.read_line()).startswith(b"START_MONITOR"):
                pass
            assert line.startswith(b"START_MONITOR FAILURE 77 ")
            assert b"is no node of ONEDock" in zlib.decompress(base64.b64decode(line.split()[-1]))


def socket_of(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(path))
    return connection


def hang_up(path: Path, data: bytes) -> None:
    """Send, and read until the other side hangs up."""
    with socket_of(path) as connection, contextlib.suppress(ConnectionError, BrokenPipeError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


HELLO = b'{"hello": "vmm", "session": "abba", "pid": 1}\n'


BROKEN = [
    b"not JSON\n",
    b"\xff\xfe\n",
    b"[]\n",
    b"null\n",
    b'"hello"\n',
    b"{}\n",
    b'{"hello": "root", "session": "x"}\n',
    b'{"hello": {"a": 1}, "session": []}\n',
    b"[" * 100_000 + b"\n",
    b'{"hello": "tm", "session": "a"}\n{"request": "b", "action": "clone", "argv": [1, null, {}], "stdin": 5}\n',
    b'{"hello": "tm", "session": "a"}\n{"request": "b", "action": "clone", "argv": "abc", "stdin": ""}\n',
    b'{"hello": "tm", "session": "a"}\n{"request": "b", "action": "../../sh", "argv": [], "stdin": ""}\n',
    b'{"hello": "datastore", "session": "a"}\n{"request": "b", "action": "../../sh", "argv": [], "stdin": ""}\n',
    b'{"hello": "datastore", "session": "a"}\n{"request": "b", "action": "cp", "argv": ["%"], "stdin": "<!D"}\n',
    b'{"hello": "datastore", "session": "x"}\n{"request": 7}\n',
    HELLO + b'{"seq": "x", "line": 5}\n',
    HELLO + b'{"seq": 1}\n',
    HELLO + b'{"seq": 1e400, "line": "DEPLOY  1 "}\n',
    HELLO + b'{"seq": ' + b"9" * 5000 + b', "line": "x"}\n',
    HELLO + b'{"seq": 1, "line": "\\ud800"}\n',
    HELLO + b'{"seq": 1, "line": "EXPLODE  1 ", "oversized": -5}\n',
    HELLO + b'{"seq": 1, "line": {"a": [1]}}\n',
    HELLO + b'{"delivered": "all"}\n',
    HELLO + b'{"delivered": ' + b"9" * 30 + b"}\n",
    b'{"hello": "vmm", "session": "\\ud800", "pid": 1}\n{"seq": 1, "line": "DEPLOY  2000000000 "}\n',
    HELLO[:20],
    b"",
]


async def test_who_breaks_the_drivers_protocol_is_hung_up_on(cloud: Cloud) -> None:
    for data in BROKEN:
        await asyncio.to_thread(hang_up, cloud.directory / "driver.sock", data)


async def test_a_message_without_end_is_hung_up_on(cloud: Cloud) -> None:
    await asyncio.to_thread(hang_up, cloud.directory / "driver.sock", b'{"hello": "' + b"x" * 300 * MEGABYTE + b'"}\n')


async def test_silence_and_crowds_hold_nobody_up(cloud: Cloud, image: int) -> None:
    with contextlib.ExitStack() as crowd:
        for number in range(200):
            connection = crowd.enter_context(socket_of(cloud.directory / "driver.sock"))
            connection.sendall(b'{"hello": "tm", "sess'[: number % 20])
        for _ in range(50):
            connection = crowd.enter_context(socket_of(cloud.directory / "agent.sock"))
            connection.sendall(b"PUT /vms/1/network HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
            connection = crowd.enter_context(socket_of(cloud.api))
            connection.sendall(b"GET /health HT")
        vm = await cloud.running_vm(image, nic=False)
        await cloud.one.call("one.vm.recover", vm, 3)
        await cloud.reaches(vm, VmState.DONE)


def http(path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of one request, sent as it is."""
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    with socket_of(path) as connection, contextlib.suppress(ConnectionError, BrokenPipeError):
        connection.sendall(head.encode() + body)
        while data := connection.recv(65536):
            answer += data
    status, _, rest = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), rest


NETWORK = {"vm": STRANGER // 4, "nics": []}
NIC = {"index": 0, "name": "eth0", "host_name": "odt-nic0", "mac": "02:00:00:00:00:01", "bridge": "odtbr0"}


def a_network(**nic: object) -> bytes:
    return json.dumps(NETWORK | {"nics": [NIC | nic]}).encode()


FOR_THE_AGENT = [
    ("GET", "/vms/../../etc/passwd", b"", 404),
    ("GET", "/vms/%2e%2e%2fetc/network", b"", 400),
    ("GET", "/vms/-1/network", b"", 400),
    ("GET", "/vms/99999999999/network", b"", 400),
    ("GET", "/vms/%D9%A2/network", b"", 400),
    ("DELETE", "/vms/*", b"", 400),
    ("DELETE", "/vms/4294967296", b"", 400),
    ("PUT", "/vms/1/containers/..%2F..%2Fetc%2Fpasswd", b"", 400),
    ("PUT", "/vms/1/containers/" + "a" * 63 + "%0A", b"", 400),
    ("PUT", f"/vms/{STRANGER // 4}/containers/{'a' * 64}", b"", 404),
    ("PUT", f"/vms/{STRANGER // 4}/network", b"not json", 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", b"\xff\xfe", 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", b"[" * 100_000, 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", b"{}", 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", b"x" * 600_000, 400),
    ("PUT", "/vms/1/network", a_network(), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(bridge="../../etc"), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(bridge="lo"), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(name="../x"), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(name="lo"), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(index=True), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(mtu=10**30), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(addresses=["10.0.0.1/24\n"]), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(addresses="10.0.0.1/24"), 400),
    ("PUT", f"/vms/{STRANGER // 4}/network", a_network(phydev="nosuchdev0"), 409),
    ("POST", "/usage", b'[[1, "../../../../etc", 1]]', 200),
    ("POST", "/usage", b'[[1, "' + b"a" * 64 + b'", -1]]', 200),
    ("POST", "/usage", b'{"a": 1}', 400),
    ("PATCH", "/vms", b"", 405),
    ("GET", "/" + "x" * 7000, b"", 404),
]


async def test_the_agent_refuses_what_makes_no_sense(cloud: Cloud) -> None:
    agent = cloud.directory / "agent.sock"
    links = cloud.links()
    for method, target, body, status in FOR_THE_AGENT:
        found, answer = await asyncio.to_thread(http, agent, method, target, body)
        assert found == status, f"{method} {target[:80]} {body[:200]!r}: {answer[:300]!r}"
        assert status == 200 or json.loads(answer)["error"]
    await asyncio.to_thread(http, agent, "DELETE", f"/vms/{STRANGER // 4}")
    assert cloud.links() == links
    assert f"one-{STRANGER // 4}" not in cloud.namespaces()


FOR_THE_API = [
    ("/vms/..%2f..%2fetc", 404),
    ("/vms/-1", 404),
    ("/vms/99999999999999999999999999", 404),
    ("/vms/" + "9" * 5000, 404),
    ("/log?vm=99999999999999999999999", 409),
    ("/log?vm=%C2%B2", 409),
    ("/log?limit=many", 409),
    ("/log?limit=-1", 409),
    ("/log?limit=" + "9" * 5000, 409),
    ("/log?since=nan", 409),
    ("/log?level=$(reboot)", 409),
    ("/intents/" + "9" * 5000, 404),
    ("/intents/" + "9" * 15, 404),
    ("/metrics/../../etc", 404),
]


async def test_the_api_refuses_what_makes_no_sense(cloud: Cloud) -> None:
    for target, status in FOR_THE_API:
        found, _ = await asyncio.to_thread(http, cloud.api, "GET", target)
        assert found == status, target
