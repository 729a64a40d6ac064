"""Hostile templates, images and networks through the real stack: a clear error or the correct effect, nothing else."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, tostring

import pytest
import pytest_asyncio
from tests.support import images, processes
from tests.support.cloud import Cloud
from tests.support.engine import PrivateEngine
from tests.support.fake_oned import FakeOned, deploy_document
from tests.support.images import Image
from tests.support.registry import PrivateRegistry
from tests.support.unprivileged import UnprivilegedCloud, interpreter
from tests.support.waiting import eventually

from onedock.lab.opennebula.states import LcmState, VmState

pytestmark = [pytest.mark.root, pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

CANARY = Path("/dev/shm", f"{processes.RUN}-canary")
"""A file that only a shell would make, on the host and in a container alike."""
SHELL = f"$(touch {CANARY})`touch {CANARY}`; touch {CANARY} | touch {CANARY} && touch {CANARY} # ' %s %n {{0}}"
LINES = f"first\ntouch {CANARY}\n$(touch {CANARY})\n"
QUOTES = "it's a \"quoted\" <b>&amp;</b> ]]> value \\\\ with 'all' of them"
TRAVERSAL = "../../../../etc/passwd"
MARKUP = "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"
WIDE = "naïve ☃ 🐳 \u202e end"
HOSTILE = {"SHELL": SHELL, "LINES": LINES, "QUOTES": QUOTES, "TRAVERSAL": TRAVERSAL, "MARKUP": MARKUP, "WIDE": WIDE}
HOSTS, ELSEWHERE = Path("/etc/hosts"), Path("/tmp/elsewhere")
MEGABYTE = "x" * 1_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(engine: PrivateEngine, registry: PrivateRegistry) -> AsyncIterator[Cloud]:
    async with (UnprivilegedCloud if interpreter() else Cloud)(engine, registry) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image(cloud: Cloud) -> int:
    return await cloud.image("plain")


@pytest.fixture(autouse=True)
def canary() -> Iterator[None]:
    hosts = HOSTS.read_bytes()
    yield
    assert HOSTS.read_bytes() == hosts
    assert not ELSEWHERE.exists()
    sung = CANARY.exists()
    CANARY.unlink(missing_ok=True)
    assert not sung, "something was executed by a shell"


def quoted(value: str) -> str:
    """A value in template text."""
    return '"' + value.replace('"', '\\"') + '"'


def vector(name: str, values: dict[str, str]) -> str:
    return f"{name}=[{','.join(f'{key}={quoted(value)}' for key, value in values.items())}]\n"


def environment(cloud: Cloud, vm: int) -> dict[str, str]:
    """What the kernel gave to the container's process, and no canary in it."""
    container = cloud.container(vm)
    assert container is not None
    root = Path(f"/proc/{container['State']['Pid']}")
    assert not (root / "root" / CANARY.relative_to("/")).exists(), "something was executed in the container"
    pairs = (root / "environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/<pid>/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def namespace(path: str | Path) -> int:
    """What tells one namespace from another."""
    return Path(path).stat().st_ino


def disk_mounts(pid: int) -> set[str]:
    """Where a process sees file systems that are on a disk."""
    mounts = [line.split(" - ") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {place.split()[4] for place, source in mounts if source.split()[1].startswith("/dev/")}


async def nothing_left(cloud: Cloud, vm: int) -> None:
    await eventually(lambda: cloud.container(vm) is None, what="no container is left")
    await eventually(lambda: f"one-{vm}" not in cloud.namespaces(), what="no namespace is left")
    assert not {link for link in cloud.links() if link.startswith(f"one-{vm}")}


async def fails(cloud: Cloud, vm: int) -> str:
    """A VM that cannot be started: nothing is left, and the user is told why."""
    await cloud.reaches(vm, LcmState.BOOT_FAILURE)
    await nothing_left(cloud, vm)
    error = (await cloud.one.vm(vm)).findtext("USER_TEMPLATE/ERROR") or ""
    assert error, "the VM does not say why it failed"
    await end(cloud, vm)
    return error


async def end(cloud: Cloud, vm: int) -> None:
    await cloud.one.call("one.vm.recover", vm, 3)
    await cloud.reaches(vm, VmState.DONE)
    await nothing_left(cloud, vm)


@pytest.mark.skipif(not interpreter(), reason="nobody but root can run this Python")
async def test_the_controller_has_no_privileges(cloud: Cloud) -> None:
    status = status_of(cloud.controller.pid)
    assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0


async def test_context_values_arrive_as_they_are(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image, nic=False, more=vector("CONTEXT", HOSTILE))
    found = environment(cloud, vm)
    assert {name: found.get(name) for name in HOSTILE} == HOSTILE
    await end(cloud, vm)


async def test_docker_env_values_arrive_as_they_are(cloud: Cloud, image: int) -> None:
    text = f"""ONE='{SHELL.replace("'", "")}' TWO="two words" THREE=$HOME/$(id)"""
    more = vector("DOCKER_ENV", HOSTILE) + f"DOCKER_ENV={quoted(text)}\n"
    vm = await cloud.running_vm(image, nic=False, more=more)
    found = environment(cloud, vm)
    assert {name: found.get(name) for name in HOSTILE} == HOSTILE
    assert found["ONE"] == SHELL.replace("'", "")
    assert found["TWO"] == "two words"
    assert found["THREE"] == "$HOME/$(id)"
    await end(cloud, vm)


async def test_a_command_is_split_and_never_expanded(cloud: Cloud, image: int) -> None:
    command = f"/bin/busybox sleep 86400 '{SHELL.replace(chr(39), '')}'"
    vm = await cloud.vm(image, nic=False, more=f"DOCKERRUN={quoted(command)}\n")
    await cloud.reaches(vm, VmState.POWEROFF)  # sleep does not take the last word for a time
    container = cloud.container(vm)
    assert container is not None
    assert [container["Path"], *container["Args"]] == ["/bin/busybox", "sleep", "86400", SHELL.replace("'", "")]
    await end(cloud, vm)


@pytest.mark.parametrize("name", [SHELL, LINES, QUOTES, TRAVERSAL, WIDE, "x" * 5000, "..", "☃☃☃", "-rf --privileged"])
async def test_a_name_becomes_a_valid_host_name(cloud: Cloud, image: int, name: str) -> None:
    vm = await cloud.running_vm(image, name=name.replace('"', '\\"'), nic=False)
    host_name = cloud.run_in(vm, "/bin/busybox", "hostname").strip()
    assert 1 <= len(host_name) <= 63
    assert all(character.isascii() and (character.isalnum() or character in "-.") for character in host_name)
    assert cloud.container(vm)["Name"] == f"/one-{vm}"  # type: ignore[index]
    await end(cloud, vm)


async def test_a_context_value_over_the_kernels_limit_is_left_out(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image, nic=False, more=vector("CONTEXT", {"BIG": MEGABYTE, "SMALL": "kept"}))
    found = environment(cloud, vm)
    assert "BIG" not in found
    assert found["SMALL"] == "kept"
    log = cloud.one.vm_log(vm)
    await eventually(lambda: "CONTEXT/BIG is left out" in log.read_text(), what="the VM's log says so")
    await end(cloud, vm)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f'DOCKER_ENV="BIG={MEGABYTE}"\n', "DOCKER_ENV has 1000004 characters"),
        (vector("DOCKER_ENV", {"BIG": MEGABYTE}), "DOCKER_ENV: BIG has 1000000 characters"),
        (vector("DOCKER_ENV", {f"V{n}": "x" * 100_000 for n in range(11)}), "the environment has"),
        ('DOCKER_ENV="A=\'unfinished"\n', "DOCKER_ENV cannot be split"),
        ('DOCKER_ENV="$(reboot)"\n', "DOCKER_ENV must be NAME=value"),
        (vector("DOCKER_ENV", {"A.B": "x"}) + 'DOCKER_ENV="../x=1"\n', "is not a valid name"),
        (f"DOCKERRUN={quoted(MEGABYTE)}\n", "DOCKERRUN has 1000000 characters"),
        ('DOCKERRUN="sh -c \'"\n', "DOCKERRUN cannot be split"),
        ('DOCKERRUN="/bin/../../../../bin/bash"\n', "not in the image"),
        ('DOCKER_WORKDIR="/proc/self/fd/8"\n', "working directory"),
        ('DOCKER_WORKDIR="../../etc"\n', "working directory"),
        ('DOCKER_USER="root; reboot"\n', "user"),
        ('DOCKER_USER="nobody-of-this-name"\n', "not in the image"),
        ('VCPU="1e400"\n', "VCPU"),
        ('VCPU="NaN"\n', "VCPU"),
    ],
    ids=lambda value: value[:30].strip() if isinstance(value, str) else None,
)
async def test_what_cannot_work_fails_clearly(cloud: Cloud, image: int, more: str, said: str) -> None:
    vm = await cloud.vm(image, more=more)
    assert said in (await fails(cloud, vm))[:300]


@pytest.mark.parametrize("shape", ["no-shell", "etc-elsewhere", "huge-environment", "proc-is-a-link"])
async def test_strange_images_run(cloud: Cloud, shape: str) -> None:
    strange = {
        "no-shell": images.NO_SHELL,
        "etc-elsewhere": Image(links=(("etc", "/tmp/elsewhere"),), files=(("tmp/elsewhere/kept", b"image"),)),
        "huge-environment": images.HUGE_ENVIRONMENT,
        "proc-is-a-link": Image(links=(("tmp", "/proc/self/root"), ("var", "../../../../var"))),
    }[shape]
    vm = await cloud.running_vm(await cloud.image(shape, strange))
    container = cloud.container(vm)
    assert container is not None
    assert container["State"]["Running"]
    if shape == "etc-elsewhere":
        assert f"one-{vm}" in cloud.namespaces()
        assert cloud.run_in(vm, "/bin/busybox", "cat", "/tmp/elsewhere/kept") == "image"
        assert "10.77.0." in cloud.run_in(vm, "/bin/busybox", "cat", "/etc/hosts")
    if shape == "huge-environment":
        assert len(environment(cloud, vm)["VARIABLE_99"]) == 1000
    await end(cloud, vm)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Image(entrypoint=("/no/such/entrypoint", "x")), '"/no/such/entrypoint" is not in the image'),
        (images.WORKDIR_IN_PROC, "working directory"),
        (Image(cmd=("/etc",), files=(("etc/x", b""),)), "cannot be executed"),
        (Image(cmd=None), "command"),
        (Image(user="../../root"), "../../root"),
    ],
    ids=["no-entrypoint", "workdir-in-proc", "directory", "no-command", "no-user"],
)
async def test_broken_images_fail_clearly(cloud: Cloud, shape: Image, said: str) -> None:
    vm = await cloud.vm(await cloud.image(f"broken-{abs(hash(shape)) % 10**9}", shape))
    assert said in await fails(cloud, vm)


async def test_an_image_that_fails_at_its_last_step_is_a_vm_that_ends(cloud: Cloud) -> None:
    """The kernel refuses the program only after the engine has called the container started."""
    script = Image(cmd=("/broken",), files=(("broken", b"#!/no/such/interpreter\n"),))
    vm = await cloud.vm(await cloud.image("no-interpreter", script))
    await cloud.reaches(vm, VmState.POWEROFF)
    log = cloud.one.vm_log(vm)
    await eventually(lambda: "ended with exit code" in log.read_text(), what="the VM's log tells it")
    await end(cloud, vm)


def set_nic(document: Element, name: str, value: str) -> None:
    nic = document.find("VM/TEMPLATE/NIC")
    assert nic is not None
    for old in nic.findall(name):
        nic.remove(old)
    child = type(nic)(name)
    child.text = value
    nic.append(child)


async def test_hostile_nics_fail_clearly_and_leave_nothing(cloud: Cloud, image: int) -> None:
    """oned validates some of these values; whoever made an address range or edited the database does not."""
    template = f"""NAME="nic" CPU="0.1" MEMORY="32" DISK=[IMAGE_ID="{image}"] NIC=[NETWORK_ID="{cloud.network}"]"""
    vm: int = await cloud.one.call("one.vm.allocate", template, True)
    links = cloud.links()
    async with FakeOned(cloud, "vmm") as oned:
        for name, value, said in [
            ("BRIDGE", "../../etc", "BRIDGE"),
            ("BRIDGE", "sixteen-letters-", "BRIDGE"),
            ("BRIDGE", "a b", "BRIDGE"),
            ("BRIDGE", "$(touch x)", "BRIDGE"),
            ("BRIDGE", "", "BRIDGE"),
            ("BRIDGE", "lo", "lo"),
            ("BRIDGE", "all", "all"),
            ("TARGET", "../../sixteen", "TARGET"),
            ("TARGET", "odtbr0", "odtbr0"),
            ("MAC", "not a mac", "MAC"),
            ("MAC", "01:00:5e:00:00:01", "MAC"),
            ("MAC", "00:00:00:00:00:00", "MAC"),
            ("IP", "10.77.0.300", "IP"),
            ("IP", "10.77.0.9/../..", "IP"),
            ("IP", "224.0.0.1", "224.0.0.1"),
            ("IP6", "fe80::1%eth0\nx", "IP"),
            ("NETWORK_MASK", "255.0.255.0", "mask"),
            ("GATEWAY", "nowhere", "GATEWAY"),
            ("DNS", "1.1.1.1;reboot", "DNS"),
            ("SEARCH_DOMAIN", "a;options", "domain"),
            ("SEARCH_DOMAIN", "$(touch", "domain"),
            ("MTU", "1000000000", "MTU"),
            ("MTU", "-1", "MTU"),
            ("MTU", "1e9", "MTU"),
            ("PHYDEV", "nosuchdev0", "nosuchdev0"),
            ("PHYDEV", "../../dev/sda", "PHYDEV"),
            ("VN_MAD", "../../bin/sh", "VN_MAD"),
            ("NIC_ID", "999999999999", "NIC_ID"),
            ("NIC_ID", "-1", "NIC_ID"),
            ("BRIDGE_TYPE", "openvswitch; reboot", "BRIDGE_TYPE"),
        ]:
            document = await deploy_document(cloud, vm)
            set_nic(document, name, value)
            ok, text = oned.ask("DEPLOY", vm, tostring(document))
            assert not ok, f"{name}={value!r}"
            assert said.lower() in text[:200].lower(), f"{name}={value!r}: {text}"
            await nothing_left(cloud, vm)
            assert cloud.links() == links, f"{name}={value!r}"
    await end(cloud, vm)


async def test_a_network_that_cannot_be_made_leaves_no_bridge(cloud: Cloud, image: int) -> None:
    network = 'NAME="cut"\nVN_MAD="bridge"\nBRIDGE="odtcut0"\nPHYDEV="nosuchdev0"\nAR=[TYPE="ETHER",SIZE="9"]'
    number: int = await cloud.one.call("one.vn.allocate", network, -1)
    links = cloud.links()
    vm = await cloud.vm(image, nic=False, more=f'NIC=[NETWORK_ID="{number}"]\n')
    assert "nosuchdev0 is missing" in await fails(cloud, vm)
    await eventually(lambda: cloud.links() == links, what="no link is left")


async def test_a_container_is_confined(cloud: Cloud, image: int) -> None:
    vm = await cloud.running_vm(image)
    container = cloud.container(vm)
    assert container is not None
    host, pid = container["HostConfig"], container["State"]["Pid"]
    assert not host["Privileged"]
    assert not any(host[key] for key in ("CapAdd", "Binds", "Devices", "SecurityOpt", "VolumesFrom", "GroupAdd"))
    assert (host["PidMode"], host["UTSMode"], host["UsernsMode"], host["NetworkMode"]) == ("", "", "", "none")
    assert host["IpcMode"] in {"private", "shareable"}
    assert host["RestartPolicy"]["Name"] == "no"
    assert container["Mounts"] == []
    status = status_of(pid)
    assert int(status["CapEff"], 16) & (1 << 12 | 1 << 21 | 1 << 16) == 0, "net_admin, sys_admin or sys_module"
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16)
    assert status["Seccomp"] == "2"
    inside = namespace(f"/proc/{pid}/ns/net")
    assert inside == namespace(f"/run/netns/one-{vm}")
    assert inside not in {namespace("/proc/self/ns/net"), namespace(f"/run/netns/{cloud.engine.netns}")}
    for kind in ("mnt", "pid", "ipc", "uts"):
        assert namespace(f"/proc/{pid}/ns/{kind}") != namespace(f"/proc/self/ns/{kind}")
    shown = cloud.run_in(vm, "/bin/busybox", "ls", "/sys/class/net").split()
    assert sorted(shown) == ["eth0", "lo"]
    assert disk_mounts(pid) <= {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    await end(cloud, vm)
