"""oned's documents for benchmark VMs, made from a DEPLOY that a real oned 7.4 sent: same size, same elements."""

import base64
import copy
import time
from dataclasses import dataclass
from functools import cache
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from tests.support.recorded import records

NODE = "bench-1"
NETWORK = "10.78"


@dataclass(frozen=True, slots=True)
class BenchVm:
    """One VM. ``number`` counts from 0 and gives address and MAC; ``since`` is when its last start began."""

    id: int
    number: int
    image: str
    node: str = NODE
    bridge: str = "bench0"
    since: int = 0

    @property
    def address(self) -> str:
        return f"{NETWORK}.{1 + self.number // 250}.{1 + self.number % 250}"

    @property
    def mac(self) -> str:
        return f"02:00:0a:4e:{1 + self.number // 250:02x}:{1 + self.number % 250:02x}"


def deploy_line(vm: BenchVm) -> bytes:
    """The line with which oned asks for a start."""
    return _line("DEPLOY", vm, lcm_state=2)


def cleanup_line(vm: BenchVm) -> bytes:
    """The line with which oned has everything of a VM removed."""
    return _line("CLEANUP", vm, lcm_state=23)


def change_line(action: str, vm: BenchVm) -> bytes:
    """The line of ATTACHNIC, DETACHNIC or UPDATESG: the VM has a second NIC, marked as what the first two are about."""
    root = _request(vm, lcm_state=3 if action == "UPDATESG" else 25)
    template = root.find("VM/TEMPLATE")
    assert template is not None
    nic = copy.deepcopy(template.find("NIC"))
    assert nic is not None
    for path, text in {
        "NIC_ID": "1",
        "IP": vm.address.replace(NETWORK, "10.79"),
        "MAC": vm.mac.replace("02:00", "02:01"),
        "TARGET": f"one-{vm.id}-1",
    }.items():
        _set(nic, path, text)
    if action == "UPDATESG":
        _set(root, "SECURITY_GROUP_ID", "100")
    else:
        _set(nic, "ATTACH", "YES")
    template.append(nic)
    return _encoded(action, vm, root)


def _line(action: str, vm: BenchVm, *, lcm_state: int) -> bytes:
    return _encoded(action, vm, _request(vm, lcm_state=lcm_state))


def _request(vm: BenchVm, *, lcm_state: int) -> Element:
    root = copy.deepcopy(_recorded())
    _set(root, "HOST", vm.node)
    _set(root, "TM_COMMAND", "")
    document = root.find("VM")
    assert document is not None
    _fill(document, vm, 3, lcm_state)
    return root


def _encoded(action: str, vm: BenchVm, root: Element) -> bytes:
    return f"{action}  {vm.id} ".encode() + base64.b64encode(tostring(root)) + b"\n"


def vm_document(vm: BenchVm, state: int, lcm_state: int) -> str:
    """What ``one.vm.info`` answers."""
    document = copy.deepcopy(_recorded().find("VM"))
    assert document is not None
    _fill(document, vm, state, lcm_state)
    return tostring(document, encoding="unicode")


def pool_entry(vm: BenchVm, state: int, lcm_state: int) -> str:
    """The VM's part of ``one.vmpool.info``: no context, the last history record in short form."""
    document = copy.deepcopy(_recorded_pool_entry())
    _fill(document, vm, state, lcm_state)
    return tostring(document, encoding="unicode")


def host_entry(node: str, host_id: int) -> str:
    """A host's part of ``one.hostpool.info``."""
    host = copy.deepcopy(_recorded_host())
    _set(host, "ID", str(host_id))
    _set(host, "NAME", node)
    return tostring(host, encoding="unicode")


@cache
def _recorded() -> Element:
    """A recorded DEPLOY, with one NIC and one disk left."""
    root = fromstring(next(r["xml"] for r in records("vmm") if r["head"].startswith("DEPLOY") and "<NIC>" in r["xml"]))
    template = root.find("VM/TEMPLATE")
    assert template is not None
    _keep_one_of_each(template)
    context = template.find("CONTEXT")
    assert context is not None
    for item in list(context):
        if item.tag.startswith(("ETH1_", "ETH0_ALIAS")):
            context.remove(item)
    return root


@cache
def _recorded_pool_entry() -> Element:
    answers = [r["response"][1] for r in records("xmlrpc") if r["method"] == "one.vmpool.info"]
    entry = next(vm for text in answers for vm in fromstring(text) if vm.find("TEMPLATE/NIC") is not None)
    template = entry.find("TEMPLATE")
    assert template is not None
    _keep_one_of_each(template)
    return entry


@cache
def _recorded_host() -> Element:
    answers = [r["response"][1] for r in records("xmlrpc") if r["method"] == "one.hostpool.info"]
    return next(host for text in answers for host in fromstring(text) if host.findtext("STATE") == "2")


def _keep_one_of_each(template: Element) -> None:
    for tag, keep in (("NIC", 1), ("DISK", 1), ("NIC_ALIAS", 0)):
        for element in template.findall(tag)[keep:]:
            template.remove(element)
    for alias in template.findall("NIC/ALIAS_IDS"):
        alias.text = ""


def _fill(document: Element, vm: BenchVm, state: int, lcm_state: int) -> None:
    for path, text in {
        "ID": str(vm.id),
        "NAME": f"bench-{vm.number}",
        "STATE": str(state),
        "LCM_STATE": str(lcm_state),
        "DEPLOY_ID": f"one-{vm.id}",
        "STIME": str(vm.id),
        "TEMPLATE/CONTEXT/ETH0_IP": vm.address,
        "TEMPLATE/CONTEXT/ETH0_MAC": vm.mac,
        "TEMPLATE/CONTEXT/ETH0_MASK": "255.255.0.0",
        "TEMPLATE/CONTEXT/ETH0_GATEWAY": f"{NETWORK}.0.1",
        "TEMPLATE/DISK/SOURCE": f"docker://{vm.image}",
        "TEMPLATE/NIC/BRIDGE": vm.bridge,
        "TEMPLATE/NIC/IP": vm.address,
        "TEMPLATE/NIC/MAC": vm.mac,
        "TEMPLATE/NIC/GATEWAY": f"{NETWORK}.0.1",
        "TEMPLATE/NIC/TARGET": f"one-{vm.id}-0",
        "TEMPLATE/VMID": str(vm.id),
        "HISTORY_RECORDS/HISTORY/OID": str(vm.id),
        "HISTORY_RECORDS/HISTORY/HOSTNAME": vm.node,
        "HISTORY_RECORDS/HISTORY/RSTIME": str(vm.since),
    }.items():
        if document.find(path) is not None:
            _set(document, path, text)


def _set(root: Element, path: str, text: str) -> None:
    element = root.find(path)
    if element is None:
        element = SubElement(root, path)
    element.text = text


def now() -> int:
    """The time in oned's unit."""
    return int(time.time())
