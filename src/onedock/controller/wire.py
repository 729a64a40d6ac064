"""The lines between oned or monitord and their drivers, as values. Pure: no I/O, no clock.

Protocol reference 1.2 (lines), 1.3 (payloads), 2 (VMM), 5 (IM and monitoring), 5.8 (template text). Lines are
without their newline throughout.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from onedock.controller.xml import parse_xml, required_text
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmId, container_name

PAYLOAD_LIMIT = 64 * 1024 * 1024
"""Bytes of a decompressed payload."""
MONITORD_PORT = 4124

_VMM_LINE = re.compile(r"([A-Z_]{1,64})\s+(-?[0-9]{1,18})(?:\s+(\S.*))?", re.ASCII | re.DOTALL)
_IM_LINE = re.compile(
    r"([A-Z_]{1,64})\s+\S+\s+(-?[0-9]{1,18})(?:\s+([0-9]{1,18})(?:\s+(\S.*))?)?", re.ASCII | re.DOTALL
)
_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")

Value = str | int | float
"""A value of a template attribute."""
Values = Mapping[str, Value | Mapping[str, Value]]
"""Attributes of a template; a mapping is a vector."""


class WireError(TerminalError):
    """A line of oned or monitord cannot be understood."""


class PayloadError(WireError):
    """The head of a line is good, so that it can be answered with a failure, but its payload is not."""

    def __init__(self, message: str, action: str, object_id: int) -> None:
        super().__init__(message)
        self.action = action
        self.object_id = object_id
        """Id of the VM or host."""


@dataclass(frozen=True, slots=True)
class VmmLine:
    """A request to the VM_MAD. Its status field is empty on the wire."""

    action: str
    vm: int
    payload: str
    """XML text; empty for DRIVER_CANCEL."""


@dataclass(frozen=True, slots=True)
class ImLine:
    """A request to the IM_MAD."""

    action: str
    host_id: int
    epoch: int
    payload: str
    """XML text."""


@dataclass(frozen=True, slots=True)
class StartMonitor:
    """What START_MONITOR says: which host, and where monitord listens for its messages."""

    host_id: int
    host_name: str
    address: str
    port: int


def parse_vmm_line(text: str) -> VmmLine:
    """``DEPLOY␠␠42␠<base64>``. Raises WireError; PayloadError if only the payload is bad."""
    match = _VMM_LINE.fullmatch(text.strip())
    if not match:
        raise WireError(f"line of oned not understood: {text[:60]!r}")
    action, vm, payload = match[1], int(match[2]), match[3] or ""
    try:
        return VmmLine(action, vm, _utf8(_base64(payload)))
    except ValueError as error:
        raise PayloadError(f"payload of {action} cannot be read: {error}", action, vm) from error


def parse_im_line(text: str) -> ImLine:
    """``START_MONITOR - 3 0 <base64 of zlib>``. Raises WireError; PayloadError if only the payload is bad."""
    match = _IM_LINE.fullmatch(text.strip())
    if not match:
        raise WireError(f"line of monitord not understood: {text[:60]!r}")
    action, host_id, epoch, payload = match[1], int(match[2]), int(match[3] or 0), match[4] or ""
    try:
        return ImLine(action, host_id, epoch, _utf8(_inflate(_base64(payload))) if payload else "")
    except ValueError as error:
        raise PayloadError(f"payload of {action} cannot be read: {error}", action, host_id) from error


def parse_start_monitor(xml: str) -> StartMonitor:
    """Read the payload of START_MONITOR or STOP_MONITOR (protocol reference 5.4). Raises XmlError, WireError.

    ``MONITOR_ADDRESS=auto`` is this machine: monitord and its drivers run on the same one.
    """
    root = parse_xml(xml)
    network = "MONITOR_CONFIGURATION/NETWORK"
    address = (root.findtext(f"{network}/MONITOR_ADDRESS") or "auto").strip()
    try:
        return StartMonitor(
            host_id=int(required_text(root, "HOST/ID")),
            host_name=required_text(root, "HOST/NAME"),
            address="127.0.0.1" if address == "auto" else address,
            port=int(root.findtext(f"{network}/PORT") or MONITORD_PORT),
        )
    except ValueError as error:
        raise WireError(f"host id or port of {root.tag} is no number: {error}") from error


def vmm_answer(action: str, ok: bool, vm: int, info: str = "") -> str:
    """One answer line of the VM_MAD.

    What must be its first word for some actions (protocol reference 2.3) is up to the caller. oned shows the
    text of a failure only if it is not empty and does not begin with ``-`` (protocol reference 1.2).
    """
    text = one_line(info)
    if ok:
        return f"{action} SUCCESS {vm} {text or '-'}"
    if not text or text.startswith("-"):
        text = f"failed: {text if text.strip('- ') else 'no reason given'}"
    return f"{action} FAILURE {vm} {text}"


def vmm_log(level: Literal["E", "W", "I", "D"], vm: int, text: str) -> str:
    """A line for the VM's log, with vm -1 for oned's own."""
    return f"LOG {level} {vm} {one_line(text)}"


def im_message(kind: str, ok: bool, host_id: int, epoch: int, text: str = "") -> str:
    """One message or answer of the IM_MAD (protocol reference 5.3); epoch 0 is never out of order."""
    head = f"{kind} {'SUCCESS' if ok else 'FAILURE'} {host_id} {epoch}"
    if not text:
        return head
    return f"{head} {base64.b64encode(zlib.compress(text.encode('utf-8', 'replace'))).decode()}"


def one_line(text: str) -> str:
    """The text with every run of line ends, control characters and lone surrogates as one blank."""
    return _NOT_PRINTABLE.sub(" ", text).strip()


def template_attribute(name: str, value: Value) -> str:
    """``NAME="value"``, numbers bare (protocol reference 5.8)."""
    return f"{name}={_number(value)}" if not isinstance(value, str) else f"{name}={_quoted(value)}"


def template_vector(name: str, values: Mapping[str, Value]) -> str:
    """``NAME=[A="1",B="x"]``; vectors do not nest."""
    return f"{name}=[{','.join(f'{key}={_quoted(_number(value))}' for key, value in values.items())}]"


def template_text(values: Values) -> str:
    """One attribute or vector per line."""
    return "".join(
        f"{template_vector(name, value) if isinstance(value, Mapping) else template_attribute(name, value)}\n"
        for name, value in values.items()
    )


def state_vm(entries: Iterable[tuple[int, str]], *, sync: bool = False, missing: str = "") -> str:
    """The data of STATE_VM for (VM id, state) pairs (protocol reference 5.6).

    With ``sync`` the list is complete for the host: VMs that are not in it get the state ``missing``
    (POWEROFF or UNKNOWN) at once, without the guard of 30 s.
    """
    head = f"SYNC_STATE=yes\n{template_attribute('MISSING_STATE', missing)}\n" if sync else ""
    return head + "\n".join(
        template_vector("VM", {"ID": vm, "DEPLOY_ID": container_name(VmId(vm)), "STATE": state})
        for vm, state in entries
    )


def monitor_vm(usages: Iterable[tuple[int, Values]]) -> str:
    """The data of MONITOR_VM for (VM id, attributes) pairs: CPU in percent, MEMORY in KB, NETRX in bytes."""
    return "\n".join(
        template_vector(
            "VM",
            {
                "ID": vm,
                "DEPLOY_ID": container_name(VmId(vm)),
                "MONITOR": base64.b64encode(template_text(values).encode("utf-8", "replace")).decode(),
            },
        )
        for vm, values in usages
    )


def _quoted(value: str) -> str:
    text = _NOT_PRINTABLE.sub(" ", value).replace("]]>", "]] >").replace('"', '\\"')
    # A final backslash would hide the closing quote: oned knows no escape for it.
    return f'"{text} "' if text.endswith("\\") else f'"{text}"'


def _number(value: Value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from error


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error


def _inflate(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, PAYLOAD_LIMIT)
    except zlib.error as error:
        raise ValueError(f"not zlib: {error}") from error
    if decompressor.unconsumed_tail:
        raise ValueError(f"more than {PAYLOAD_LIMIT} bytes when decompressed")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("zlib data is cut off or has a tail")
    return text
