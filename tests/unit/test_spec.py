"""From a VM document to the spec that a node runs: every value is untrusted."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.specs import IMAGE, NODE, VM
from tests.support.vm_xml import BRIDGED, PLAIN, ROOT_DISK, Values, parsed, vm_xml

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import VmDocument
from onedock.controller.spec import (
    MAX_ENV_BYTES,
    build_spec,
    cpu_limits,
    environment,
    host_name,
    memory_bytes,
    split_command,
)
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmSpec

SETTINGS = ContainerSettings()
HOSTILE = [
    "'", '"', "\n", "\t\r\n", "$(touch /tmp/x)", "`id`", "; reboot", "../../../etc/passwd", "a\x7fb", "\u2028", "🐳",
    "-", "--privileged", "%s%n", "{{.}}", "\\", "é", "A" * 1_000_000,
]  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60) | st.sampled_from(HOSTILE)


def built(vm: VmDocument | None = None, image: Values | None = None) -> VmSpec:
    return build_spec(
        vm or parsed(vm_xml()),
        node=NODE,
        image_attributes=image or {},
        settings=SETTINGS,
        networks_settings=NetworkSettings(),
    )


def test_a_plain_vm() -> None:
    spec = built()
    assert (spec.vm, spec.name, spec.node, spec.instance, spec.notes) == (VM, "web", NODE, "25001-1000", ())
    assert spec.container.image == IMAGE
    assert spec.container.hostname == "web"
    assert spec.container.command is None
    assert spec.container.memory_bytes == 64 * 1024 * 1024
    assert spec.container.hosts == (("web", "10.0.0.10"),)
    assert [nic.name for nic in spec.network.nics] == ["eth0"]


def test_another_vm_with_the_same_id_is_another_instance() -> None:
    assert built().instance != built(parsed(vm_xml(stime=2000))).instance


@pytest.mark.parametrize(
    ("disks", "reason"),
    [
        ((), "has no disk"),
        (({**ROOT_DISK, "SOURCE": ""},), "no image of ONEDock"),
        (({**ROOT_DISK, "SOURCE": "/var/lib/one/x"},), "no image of ONEDock"),
        (({**ROOT_DISK, "SOURCE": f"docker://{IMAGE} --privileged"},), "no image of ONEDock"),
        (({**ROOT_DISK, "DISK_ID": "²"},), "DISK_ID is not a number"),
        (({**ROOT_DISK, "DISK_ID": "9" * 5000},), "DISK_ID is not a number"),
        ((ROOT_DISK, {"DISK_ID": "1", "TYPE": "fs"}), "data disks are not supported yet"),
    ],
)
def test_disks_that_are_no_image(disks: tuple[Values, ...], reason: str) -> None:
    with pytest.raises(TerminalError, match=reason):
        built(parsed(vm_xml(disks=disks)))


@pytest.mark.parametrize(
    ("user", "template", "disk", "image", "default", "command"),
    [
        ("u 1", "t 1", "d 1", "i 1", "s 1", ("u", "1")),
        ("", "t 1", "d 1", "i 1", "s 1", ("t", "1")),
        (" ", "", "d 1", "i 1", "s 1", ("d", "1")),
        ("", "", "", "i 1", "s 1", ("i", "1")),
        ("", "", "", "", "s 1", ("s", "1")),
        ("", "", "", "", "", None),
    ],
)
def test_who_decides_the_command(
    user: str, template: str, disk: str, image: str, default: str, command: tuple[str, ...] | None
) -> None:
    vm = parsed(
        vm_xml(
            attributes={**PLAIN, "DOCKERRUN": template},
            user={"DOCKERRUN": user},
            disks=({**ROOT_DISK, "DOCKERRUN": disk},),
        )
    )
    settings = ContainerSettings(default_command=default)
    spec = build_spec(
        vm, node=NODE, image_attributes={"DOCKERRUN": image}, settings=settings, networks_settings=NetworkSettings()
    )
    assert spec.container.command == command


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nginx -g 'daemon off;'", ("nginx", "-g", "daemon off;")),
        ('sh -c "echo $(id) `id` ; reboot"', ("sh", "-c", "echo $(id) `id` ; reboot")),
        ("a\nb\tc", ("a", "b", "c")),
        (r"a\ b", ("a b",)),
        ("''", ("",)),
        ("echo # no comment", ("echo", "#", "no", "comment")),
    ],
)
def test_commands_are_split_like_a_shells_words_and_never_run_by_one(text: str, words: tuple[str, ...]) -> None:
    assert split_command(text, "DOCKERRUN") == words


@pytest.mark.parametrize("text", ["'", '"a', "a\\", "x" * MAX_ENV_BYTES + " yy", "é" * 70_000, "x" * 10_000_000])
def test_commands_that_cannot_be(text: str) -> None:
    began = time.process_time()
    with pytest.raises(TerminalError, match="DOCKERRUN") as caught:
        split_command(text, "DOCKERRUN")
    assert len(str(caught.value)) < 250
    assert time.process_time() - began < 2


def test_cpu_is_a_weight_and_vcpu_a_quota() -> None:
    assert cpu_limits({"CPU": "1"}) == (1024, 100_000)
    assert cpu_limits({"CPU": "0.5", "VCPU": "2"}) == (512, 200_000)
    assert cpu_limits({}) == (1024, 100_000)
    assert cpu_limits({"CPU": "0.000001"}) == (2, 1000)
    assert cpu_limits({"CPU": "100000"}) == (262_144, 10_000_000_000)
    assert cpu_limits({"CPU": " 1 ", "VCPU": ""}) == (1024, 100_000)


BAD_NUMBERS = [
    "0",
    "-1",
    "NaN",
    "inf",
    "-inf",
    "sNaN",
    "one",
    "1,5",
    "1e99",
    "1e999999999",
    "0x10",
    "1 2",
    "$(id)",
    "9" * 500,
]


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_numbers_that_are_none(text: str) -> None:
    readers: list[Callable[[], object]] = [
        lambda: cpu_limits({"CPU": text}),
        lambda: cpu_limits({"CPU": "1", "VCPU": text}),
        lambda: memory_bytes({"MEMORY": text}),
    ]
    for read in readers:
        with pytest.raises(TerminalError) as caught:
            read()
        assert len(str(caught.value)) < 250


def test_memory_is_always_a_limit() -> None:
    assert memory_bytes({"MEMORY": "64"}) == 64 * 1024 * 1024
    assert memory_bytes({"MEMORY": "0.5"}) == 512 * 1024
    assert memory_bytes({"MEMORY": "1e-999999"}) == 1
    with pytest.raises(TerminalError, match="no MEMORY"):
        memory_bytes({})


@given(TEXT, TEXT)
@example("web", "a" * 62 + "-b.c")
@example("...", "")
@example("ÄÖÜ", "")
def test_host_names_are_always_valid(name: str, wanted: str) -> None:
    vm = VmDocument(id=VM, name=name, state=3, lcm_state=3, stime=0, deploy_id="", context={"SET_HOSTNAME": wanted})
    result = host_name(vm)
    assert 0 < len(result) <= 63
    assert all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", label) for label in result.split("."))


def test_host_names_stay_as_they_are_when_they_are_good() -> None:
    for good in ("web", "web-1.example.com", "A9"):
        assert host_name(parsed(vm_xml(name=good))) == good
    assert host_name(parsed(vm_xml(name="x", context={"SET_HOSTNAME": "my host!"}))) == "my-host"


def variables(vm: VmDocument, image: Values | None = None) -> dict[str, str]:
    return dict(environment(vm, image or {}, []))


def test_who_decides_a_variable() -> None:
    everything = parsed(
        vm_xml(
            context={"DISK_ID": "1", "TARGET": "hda", "NETWORK": "YES", "A": "context", "B": "context", "C": "context",
                     "D": "context", "E": "context"},
            user={"DOCKER_ENV": "D=user E=user"},
            extra="<DOCKER_ENV>C=template D=template E=template</DOCKER_ENV><DOCKER_ENV><E>pair</E></DOCKER_ENV>",
        )
    )  # fmt: skip
    assert variables(everything, {"DOCKER_ENV": "B=image C=image D=image E=image"}) == {
        "NETWORK": "YES", "A": "context", "B": "image", "C": "template", "D": "user", "E": "pair",
    }  # fmt: skip


def test_values_are_taken_as_they_are() -> None:
    vm = parsed(vm_xml(user={"DOCKER_ENV": "A='two words' B=$(id) C=\"x;y\" D=a=b E="}, context={"SCRIPT": "a\n'b'\n"}))
    assert variables(vm) == {"A": "two words", "B": "$(id)", "C": "x;y", "D": "a=b", "E": "", "SCRIPT": "a\n'b'\n"}


@pytest.mark.parametrize("text", ["A", "=x", "1A=x", "A B=1", "'", "a/b=1", "A\u00e9=1", "A=" + "x" * MAX_ENV_BYTES])
def test_variables_that_cannot_be(text: str) -> None:
    with pytest.raises(TerminalError, match="DOCKER_ENV") as caught:
        variables(parsed(vm_xml(user={"DOCKER_ENV": text})))
    assert len(str(caught.value)) < 250


def test_a_context_that_is_too_long_is_left_out_and_said() -> None:
    notes: list[str] = []
    vm = parsed(vm_xml(context={"START_SCRIPT": "é" * 70_000, "A": "1"}))
    assert environment(vm, {}, notes) == (("A", "1"),)
    assert len(notes) == 1
    assert "START_SCRIPT" in notes[0]


@pytest.mark.parametrize("character", ["x", "é", "🐳"])
def test_all_variables_together_have_a_limit_in_bytes(character: str) -> None:
    value = character * (100_000 // len(character.encode()))
    assert len(variables(parsed(vm_xml(context={f"V{n}": value for n in range(10)})))) == 10
    with pytest.raises(TerminalError, match="bytes in all"):
        variables(parsed(vm_xml(context={f"V{n}": value for n in range(11)})))


NAMES = st.sampled_from([
    "CPU", "VCPU", "MEMORY", "DOCKERRUN", "DOCKER_ENTRYPOINT", "DOCKER_WORKDIR", "DOCKER_USER", "DOCKER_ENV",
])  # fmt: skip
CONTEXT_NAMES = st.sampled_from([
    "SET_HOSTNAME", "ETH0_IP", "ETH0_MASK", "ETH0_DNS", "ETH0_GATEWAY", "ETH0_IP6", "ETH0_IP6_GATEWAY", "ETH0_MTU",
    "ETH0_IP6_PREFIX_LENGTH", "ETH0_SEARCH_DOMAIN", "SSH_PUBLIC_KEY", "1BAD",
])  # fmt: skip
NIC_NAMES = st.sampled_from(["NIC_ID", "MAC", "IP", "BRIDGE", "TARGET", "VN_MAD", "MTU", "PHYDEV", "DNS", "GATEWAY"])


@given(
    attributes=st.dictionaries(NAMES, TEXT, max_size=4),
    user=st.dictionaries(NAMES, TEXT, max_size=4),
    context=st.none() | st.dictionaries(CONTEXT_NAMES, TEXT, max_size=4),
    disk=st.dictionaries(st.sampled_from(["DISK_ID", "SOURCE", "IMAGE_ID", "DOCKERRUN"]), TEXT, max_size=2),
    nic=st.dictionaries(NIC_NAMES, TEXT, max_size=3),
    alias=st.dictionaries(st.sampled_from(["IP", "ALIAS_ID", "PARENT_ID", "EXTERNAL"]), TEXT, max_size=3),
    image=st.dictionaries(NAMES, TEXT, max_size=2),
    name=TEXT,
)
def test_no_value_makes_anything_but_a_spec_or_a_reason(
    attributes: dict[str, str],
    user: dict[str, str],
    context: dict[str, str] | None,
    disk: dict[str, str],
    nic: dict[str, str],
    alias: dict[str, str],
    image: dict[str, str],
    name: str,
) -> None:
    vm = VmDocument(
        id=VM,
        name=name,
        state=3,
        lcm_state=3,
        stime=0,
        deploy_id="",
        attributes={**PLAIN, **attributes},
        user_attributes=user,
        environment=(user.get("DOCKER_ENV", ""),),
        context=context,
        disks=({**ROOT_DISK, **disk},),
        nics=({**BRIDGED, **nic},),
        aliases=({"PARENT_ID": "0", **alias},),
    )
    try:
        spec = built(vm, image)
    except TerminalError as error:
        reason = str(error)
        assert 0 < len(reason) < 400
    else:
        assert spec.container.memory_bytes > 0
        assert spec.container.cpu_quota_us > 0
        assert all("\0" not in value for _, value in spec.container.environment)
        assert len({nic.host_name for nic in spec.network.nics}) == len(spec.network.nics)
