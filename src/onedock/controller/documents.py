"""oned's XML documents as frozen views: what ONEDock reads of a VM and of a driver request.

Pure. Called by ``requests`` for driver messages and by ``resync`` for pool documents. The shapes are those of the
protocol reference, sections 2.1 and 2.2; values are untrusted text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from onedock.controller.xml import parse_xml
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import NodeName, VmId

Attributes = Mapping[str, str]
_NO_NODE = NodeName("")
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_ID = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class History:
    """The last history record of a VM. Times are Unix seconds, 0 when not set."""

    seq: int = -1
    node: NodeName = _NO_NODE
    host_id: int = -1
    vm_mad: str = ""
    rstime: int = 0
    retime: int = 0
    action: int = 0


@dataclass(frozen=True, slots=True)
class VmDocument:
    """The parts of a ``<VM>`` document that ONEDock uses."""

    id: VmId
    name: str
    state: int
    lcm_state: int
    stime: int
    deploy_id: str
    attributes: Attributes = field(default_factory=dict)
    """Single attributes of TEMPLATE: CPU, VCPU, MEMORY, DOCKER_…"""
    user_attributes: Attributes = field(default_factory=dict)
    """Single attributes of USER_TEMPLATE."""
    environment: tuple[str, ...] = ()
    """Raw DOCKER_ENV values, in order of precedence: template first, then user template."""
    environment_pairs: tuple[tuple[str, str], ...] = ()
    """DOCKER_ENV given as vectors."""
    context: Attributes | None = None
    disks: tuple[Attributes, ...] = ()
    nics: tuple[Attributes, ...] = ()
    aliases: tuple[Attributes, ...] = ()
    pcis: tuple[Attributes, ...] = ()
    security_rules: tuple[Attributes, ...] = ()
    """SECURITY_GROUP_RULE: those of all groups of all NICs, rules for networks expanded by oned."""
    history: History = History()


@dataclass(frozen=True, slots=True)
class VmmRequest:
    """One ``VMM_DRIVER_ACTION_DATA`` document (protocol reference 2.1)."""

    host: NodeName
    migration_host: str
    deploy_id: str
    tm_command: str
    security_group: str
    virtual_network: str
    vm: VmDocument


def text_of(element: Element, path: str) -> str:
    """The text of the first match, stripped; empty when there is none."""
    return (element.findtext(path) or "").strip()


def number_of(element: Element, path: str, default: int = 0) -> int:
    """The integer at ``path``, of at most 18 digits. Raises TerminalError when something else stands there."""
    text = text_of(element, path)
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise TerminalError(f"{path} is not a number: {text[:40]!r}")
    return int(text)


def parse_id(text: str) -> int | None:
    """The id that ``text`` is; None when it is none: oned's ids are 32 bits, and ``isdigit`` takes more for digits."""
    return int(text) if _ID.fullmatch(text) else None


def _vector(element: Element) -> dict[str, str]:
    return {child.tag: child.text or "" for child in element}


def parse_vm(element: Element) -> VmDocument:
    """Read a ``<VM>`` element, of a driver message, of ``one.vm.info`` or of a pool (short or extended).

    Raises:
        TerminalError: ids or states are not numbers.
    """
    template = element.find("TEMPLATE")
    user = element.find("USER_TEMPLATE")
    context = None if template is None else template.find("CONTEXT")
    sources = [part for part in (template, user) if part is not None]
    variables = [item for part in sources for item in part.findall("DOCKER_ENV")]
    records = element.findall("HISTORY_RECORDS/HISTORY")
    return VmDocument(
        id=VmId(number_of(element, "ID", -1)),
        name=text_of(element, "NAME"),
        state=number_of(element, "STATE"),
        lcm_state=number_of(element, "LCM_STATE"),
        stime=number_of(element, "STIME"),
        deploy_id=text_of(element, "DEPLOY_ID"),
        attributes=_singles(template),
        user_attributes=_singles(user),
        environment=tuple(item.text or "" for item in variables if len(item) == 0),
        environment_pairs=tuple((child.tag, child.text or "") for item in variables for child in item),
        context=None if context is None else _vector(context),
        disks=_vectors(template, "DISK"),
        nics=_vectors(template, "NIC"),
        aliases=_vectors(template, "NIC_ALIAS"),
        pcis=_vectors(template, "PCI"),
        security_rules=_vectors(template, "SECURITY_GROUP_RULE"),
        history=_history(records[-1]) if records else History(),
    )


def _singles(element: Element | None) -> dict[str, str]:
    if element is None:
        return {}
    return {child.tag: child.text or "" for child in element if len(child) == 0}


def _vectors(element: Element | None, tag: str) -> tuple[dict[str, str], ...]:
    return () if element is None else tuple(_vector(child) for child in element.findall(tag))


def _history(element: Element) -> History:
    return History(
        seq=number_of(element, "SEQ", -1),
        node=NodeName(text_of(element, "HOSTNAME")),
        host_id=number_of(element, "HID", -1),
        vm_mad=text_of(element, "VM_MAD"),
        rstime=number_of(element, "RSTIME"),
        retime=number_of(element, "RETIME"),
        action=number_of(element, "ACTION"),
    )


def parse_vmm_request(xml: str, vm: VmId) -> VmmRequest:
    """Read the payload of a VMM request for VM ``vm``.

    Raises:
        TerminalError: not this kind of document, or it speaks of another VM than the line did.
    """
    root = parse_xml(xml)
    element = root.find("VM")
    if root.tag != "VMM_DRIVER_ACTION_DATA" or element is None:
        raise TerminalError(f"the driver message is a <{root.tag[:40]}>, not a VMM_DRIVER_ACTION_DATA with a VM")
    document = parse_vm(element)
    if document.id != vm:
        raise TerminalError(f"the message for VM {vm} contains VM {document.id}; nothing was done")
    return VmmRequest(
        host=NodeName(text_of(root, "HOST")),
        migration_host=text_of(root, "MIGR_HOST"),
        deploy_id=text_of(root, "DEPLOY_ID"),
        tm_command=text_of(root, "TM_COMMAND"),
        security_group=text_of(root, "SECURITY_GROUP_ID"),
        virtual_network=text_of(root, "VIRTUAL_NETWORK_ID"),
        vm=document,
    )
