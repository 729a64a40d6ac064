"""oned's VM documents and driver messages, made from a few values. Shapes: protocol reference 2.1 and 2.2."""

import base64
from collections.abc import Mapping
from xml.sax.saxutils import escape

from tests.support.specs import IMAGE, NODE, VM

from onedock.controller.documents import VmDocument, parse_vm
from onedock.controller.xml import parse_xml
from onedock.reconcilers.model import VmId

Values = Mapping[str, str]
BRIDGED: Values = {
    "NIC_ID": "0",
    "NETWORK": "private",
    "VN_MAD": "bridge",
    "BRIDGE": "onebr0",
    "BRIDGE_TYPE": "linux",
    "MAC": "02:00:0a:00:00:0a",
    "IP": "10.0.0.10",
    "TARGET": "one-25001-0",
}
ROOT_DISK: Values = {"DISK_ID": "0", "IMAGE": "alpine", "IMAGE_ID": "7", "SOURCE": f"docker://{IMAGE}"}
PLAIN: Values = {"CPU": "1", "MEMORY": "64"}


def element(name: str, content: str | Values) -> str:
    """One element, of text or of children."""
    inner = (
        escape(content) if isinstance(content, str) else "".join(element(key, text) for key, text in content.items())
    )
    return f"<{name}>{inner}</{name}>"


def vm_xml(
    vm: VmId = VM,
    *,
    state: int = 3,
    lcm_state: int = 2,
    seq: int = 0,
    rstime: int = 0,
    action: int = 0,
    previous_action: int | None = None,
    stime: int = 1000,
    node: str = NODE,
    name: str = "web",
    attributes: Values = PLAIN,
    user: Values | None = None,
    context: Values | None = None,
    disks: tuple[Values, ...] = (ROOT_DISK,),
    nics: tuple[Values, ...] = (BRIDGED,),
    aliases: tuple[Values, ...] = (),
    extra: str = "",
) -> str:
    """A ``<VM>`` document; ``extra`` is put into its TEMPLATE as it is, ``previous_action`` is an earlier record's."""
    parts = [element(key, text) for key, text in attributes.items()]
    parts += [element("DISK", disk) for disk in disks]
    parts += [element("NIC", nic) for nic in nics]
    parts += [element("NIC_ALIAS", alias) for alias in aliases]
    if context is not None:
        parts.append(element("CONTEXT", context))
    history = {
        "SEQ": str(seq),
        "HOSTNAME": node,
        "HID": "1",
        "VM_MAD": "onedock",
        "RSTIME": str(rstime),
        "RETIME": "0",
        "ACTION": str(action),
    }
    earlier = "" if previous_action is None else element("HISTORY", history | {"ACTION": str(previous_action)})
    return (
        f"<VM><ID>{vm}</ID>{element('NAME', name)}<STATE>{state}</STATE><LCM_STATE>{lcm_state}</LCM_STATE>"
        f"<STIME>{stime}</STIME><DEPLOY_ID/><TEMPLATE>{''.join(parts)}{extra}</TEMPLATE>"
        f"{element('USER_TEMPLATE', user or {})}"
        f"<HISTORY_RECORDS>{earlier}{element('HISTORY', history)}</HISTORY_RECORDS></VM>"
    )


def parsed(document: str) -> VmDocument:
    """The document as ONEDock reads it."""
    return parse_vm(parse_xml(document))


def request_xml(document: str, *, host: str = NODE, extra: str = "") -> str:
    """A VMM_DRIVER_ACTION_DATA around a VM."""
    return f"<VMM_DRIVER_ACTION_DATA>{element('HOST', host)}{extra}{document}</VMM_DRIVER_ACTION_DATA>"


def vmm_line(action: str, document: str, *, vm: VmId = VM, extra: str = "") -> str:
    """The line that oned writes."""
    payload = base64.b64encode(request_xml(document, extra=extra).encode()).decode()
    return f"{action}  {vm} {payload}"
