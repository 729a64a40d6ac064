"""The XML documents of the pools, element by element as OpenNebula 7.4 prints them."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

from onedock.lab.opennebula import leases
from onedock.lab.opennebula.objects import (
    AddressRange,
    Datastore,
    DiskSnapshots,
    History,
    Image,
    Progress,
    SecurityGroup,
    VirtualNetwork,
    Vm,
    VmTemplate,
)
from onedock.lab.opennebula.templates import cdata, get, to_xml, vector_xml, vectors

OWNER = "<UID>0</UID><GID>0</GID><UNAME>oneadmin</UNAME><GNAME>oneadmin</GNAME>"


def element(name: str, text: object) -> str:
    """One element with escaped text."""
    return f"<{name}>{escape(str(text))}</{name}>"


def elements(**texts: object) -> str:
    """Elements named after the keyword arguments, in their order."""
    return "".join(element(name, text) for name, text in texts.items())


def ids(name: str, numbers: Iterable[int]) -> str:
    """A list of ids: ``<NAME><ID>1</ID>…</NAME>``."""
    return f"<{name}>{''.join(element('ID', number) for number in numbers)}</{name}>"


def permissions(group_use: int = 0) -> str:
    """PERMISSIONS of an object of oneadmin."""
    bits = {"OWNER": (1, 1, 0), "GROUP": (group_use, 0, 0), "OTHER": (0, 0, 0)}
    inner = "".join(
        element(f"{who}_{what}", bit) for who, row in bits.items() for what, bit in zip("UMA", row, strict=True)
    )
    return f"<PERMISSIONS>{inner}</PERMISSIONS>"


def _named(number: int, name: str, group_use: int = 0) -> str:
    return element("ID", number) + OWNER + element("NAME", name) + permissions(group_use)


def vm(item: Vm, *, stored: bool = False) -> str:
    """The ``<VM>`` document.

    Args:
        item: The VM.
        stored: As in driver messages and extended pools: last history record only and no monitoring.
    """
    records = item.history[-1:] if stored else item.history
    history = "".join(_history(item.id, record) for record in records)
    monitoring = "" if stored else "".join(cdata(key, item.monitoring[key]) for key in sorted(item.monitoring))
    return (
        "<VM>"
        + _named(item.id, item.name)
        + elements(
            LAST_POLL=0 if stored else item.last_poll,
            STATE=int(item.state),
            LCM_STATE=int(item.lcm_state),
            PREV_STATE=int(item.prev_state),
            PREV_LCM_STATE=int(item.prev_lcm_state),
            RESCHED=item.resched,
            STIME=item.stime,
            ETIME=item.etime,
            DEPLOY_ID=item.deploy_id,
        )
        + f"<MONITORING>{monitoring}</MONITORING><SCHED_ACTIONS></SCHED_ACTIONS>"
        + f"<TEMPLATE>{to_xml(item.template)}</TEMPLATE>"
        + f"<USER_TEMPLATE>{to_xml(item.user_template)}</USER_TEMPLATE>"
        + (f"<HISTORY_RECORDS>{history}</HISTORY_RECORDS>" if history else "<HISTORY_RECORDS/>")
        + "".join(_snapshots(tree) for tree in item.snapshots)
        + "<BACKUPS><BACKUP_CONFIG/><BACKUP_IDS></BACKUP_IDS></BACKUPS></VM>"
    )


def _history(vm_id: int, record: History) -> str:
    return (
        "<HISTORY>"
        + elements(OID=vm_id, SEQ=record.seq, HOSTNAME=record.hostname, HID=record.hid, CID=0)
        + elements(STIME=record.stime, ETIME=record.etime)
        + cdata("VM_MAD", record.vm_mad)
        + cdata("TM_MAD", record.tm_mad)
        + elements(DS_ID=record.ds_id, PLAN_ID=-2, ACTION_ID=-1)
        + elements(PSTIME=record.pstime, PETIME=record.petime, RSTIME=record.rstime, RETIME=record.retime)
        + elements(ESTIME=record.estime, EETIME=record.eetime)
        + elements(ACTION=record.action, UID=record.uid, GID=record.gid, REQUEST_ID=record.request_id)
        + "</HISTORY>"
    )


def _snapshots(tree: DiskSnapshots) -> str:
    inner = "".join(vector_xml("SNAPSHOT", snapshot) for snapshot in tree.snapshots)
    return (
        "<SNAPSHOTS>"
        + cdata("ALLOW_ORPHANS", tree.allow_orphans)
        + cdata("CURRENT_BASE", str(tree.current_base))
        + cdata("DISK_ID", str(tree.disk_id))
        + cdata("NEXT_SNAPSHOT", str(tree.next_snapshot))
        + inner
        + "</SNAPSHOTS>"
    )


_POOL_DISK = (
    "DISK_ID",
    "DATASTORE",
    "DATASTORE_ID",
    "IMAGE",
    "IMAGE_ID",
    "SIZE",
    "TYPE",
    "CLONE",
    "CLONE_TARGET",
    "LN_TARGET",
    "DISK_SNAPSHOT_TOTAL_SIZE",
)
_POOL_NIC = ("IP", "IP6", "MAC", "NETWORK", "NETWORK_ID", "NIC_ID", "SECURITY_GROUPS")
_POOL_USER = ("ERROR", "LABELS", "SCHED_MESSAGE", "SCHED_REQUIREMENTS")


def vm_short(item: Vm) -> str:
    """The short ``<VM>`` of ``one.vmpool.info``."""
    disks = "".join(
        f"<DISK>{''.join(cdata(key, disk.get(key, '')) for key in _POOL_DISK)}</DISK>"
        for disk in vectors(item.template, "DISK")
    )
    nics = "".join(
        f"<NIC>{''.join(cdata(key, nic[key]) for key in _POOL_NIC if key in nic)}</NIC>"
        for nic in vectors(item.template, "NIC") + vectors(item.template, "NIC_ALIAS")
    )
    graphics = "".join(vector_xml("GRAPHICS", screen) for screen in vectors(item.template, "GRAPHICS"))
    user = {key: item.user_template[key] for key in _POOL_USER if key in item.user_template}
    records = ""
    if item.history:
        record = item.record
        records = (
            "<HISTORY>"
            + elements(OID=item.id, SEQ=record.seq)
            + cdata("HOSTNAME", record.hostname)
            + elements(HID=record.hid, CID=0, DS_ID=record.ds_id)
            + cdata("VM_MAD", record.vm_mad)
            + cdata("TM_MAD", record.tm_mad)
            + cdata("ACTION", str(record.action))
            + "</HISTORY>"
        )
    capacity = elements(**{key: get(item.template, key) for key in ("CPU", "MEMORY", "VCPU")})
    return (
        "<VM>"
        + element("ID", item.id)
        + OWNER
        + elements(NAME=item.name, LAST_POLL=0)
        + elements(STATE=int(item.state), LCM_STATE=int(item.lcm_state), RESCHED=item.resched)
        + elements(STIME=item.stime, ETIME=item.etime, DEPLOY_ID=item.deploy_id)
        + f"<TEMPLATE>{capacity}{disks}{nics}{graphics}</TEMPLATE><MONITORING/>"
        + f"<USER_TEMPLATE>{to_xml(user)}</USER_TEMPLATE>"
        + f"<HISTORY_RECORDS>{records}</HISTORY_RECORDS></VM>"
    )


def image(item: Image) -> str:
    """The ``<IMAGE>`` document."""
    snapshots = cdata("ALLOW_ORPHANS", "NO") + cdata("CURRENT_BASE", "-1") + cdata("NEXT_SNAPSHOT", "0")
    if item.came_back:
        snapshots = ""
    return (
        "<IMAGE>"
        + _named(item.id, item.name)
        + elements(TYPE=int(item.type), DISK_TYPE=0, PERSISTENT=int(item.persistent))
        + elements(REGTIME=item.regtime, MODTIME=item.modtime)
        + cdata("SOURCE", item.source)
        + cdata("PATH", item.path)
        + cdata("FORMAT", item.format)
        + cdata("FS", item.fs)
        + elements(SIZE=item.size, STATE=int(item.state), PREV_STATE=int(item.prev_state))
        + elements(RUNNING_VMS=len(item.vms), CLONING_OPS=0, CLONING_ID=item.cloning_id, TARGET_SNAPSHOT=-1)
        + elements(DATASTORE_ID=item.datastore_id, DATASTORE=item.datastore)
        + ids("VMS", sorted(item.vms))
        + "<CLONES></CLONES><APP_CLONES></APP_CLONES>"
        + f"<TEMPLATE>{to_xml(item.template)}</TEMPLATE><SNAPSHOTS>{snapshots}</SNAPSHOTS>"
        + "<BACKUP_INCREMENTS></BACKUP_INCREMENTS><BACKUP_DISK_IDS></BACKUP_DISK_IDS></IMAGE>"
    )


def datastore(item: Datastore) -> str:
    """The ``<DATASTORE>`` document."""
    return (
        "<DATASTORE>"
        + _named(item.id, item.name, group_use=1)
        + cdata("DS_MAD", item.ds_mad)
        + cdata("TM_MAD", item.tm_mad)
        + cdata("BASE_PATH", item.base_path)
        + elements(TYPE=item.type, DISK_TYPE=0, STATE=0)
        + ids("CLUSTERS", [0])
        + elements(TOTAL_MB=item.total_mb, FREE_MB=item.free_mb, USED_MB=item.used_mb)
        + ids("IMAGES", sorted(item.images))
        + f"<TEMPLATE>{to_xml(item.template)}</TEMPLATE></DATASTORE>"
    )


def network(item: VirtualNetwork, *, extended: bool = False) -> str:
    """The ``<VNET>`` document; ``extended`` adds ends and leases of ranges as ``one.vn.info`` does."""

    def optional(name: str, text: str) -> str:
        return cdata(name, text) if text else f"<{name}/>"

    used = sum(len(range_.leases) for range_ in item.ranges)
    automatic = int(item.vlan_automatic)
    state = "6" if item.progress.error else "1"
    return (
        "<VNET>"
        + _named(item.id, item.name)
        + ids("CLUSTERS", [0])
        + cdata("BRIDGE", get(item.template, "BRIDGE"))
        + cdata("BRIDGE_TYPE", get(item.template, "BRIDGE_TYPE"))
        + cdata("STATE", state)
        + cdata("PREV_STATE", state)
        + "<PARENT_NETWORK_ID/><TEMPLATE_ID/>"
        + cdata("VN_MAD", get(item.template, "VN_MAD"))
        + optional("PHYDEV", get(item.template, "PHYDEV"))
        + optional("VLAN_ID", item.vlan_id)
        + "<OUTER_VLAN_ID/>"
        + elements(VLAN_ID_AUTOMATIC=automatic, OUTER_VLAN_ID_AUTOMATIC=0, USED_LEASES=used)
        + "<VROUTERS></VROUTERS>"
        + _progress(item.progress)
        + f"<TEMPLATE>{to_xml(item.template)}</TEMPLATE>"
        + f"<AR_POOL>{''.join(_range(range_, extended) for range_ in item.ranges)}</AR_POOL></VNET>"
    )


def _range(item: AddressRange, extended: bool) -> str:
    attributes = item.attributes | {"NEXT_INDEX": str(item.next_index)}
    if item.ever_leased:
        attributes["ALLOCATED"] = "".join(f" {index} {vm_id}" for index, vm_id in sorted(item.leases.items()))
    inner = "".join(cdata(key, attributes[key]) for key in sorted(attributes))
    if extended:
        last = leases.lease_at(item, int(attributes["SIZE"]) - 1)
        inner += "".join(cdata(f"{key}_END", last[key]) for key in ("MAC", "IP", "IP6") if key in last)
        inner += element("USED_LEASES", len(item.leases))
        held = "".join(
            f"<LEASE>{''.join(element(key, text) for key, text in leases.lease_at(item, index).items())}"
            f"{element('VM', vm_id)}</LEASE>"
            for index, vm_id in sorted(item.leases.items())
        )
        inner += f"<LEASES>{held}</LEASES>" if held else "<LEASES/>"
    return f"<AR>{inner}</AR>"


def security_group(item: SecurityGroup) -> str:
    """The ``<SECURITY_GROUP>`` document."""
    inner = f"{_named(item.id, item.name)}{_progress(item.progress)}<TEMPLATE>{to_xml(item.template)}</TEMPLATE>"
    return f"<SECURITY_GROUP>{inner}</SECURITY_GROUP>"


def _progress(item: Progress) -> str:
    return "".join(ids(f"{name.upper()}_VMS", sorted(numbers)) for name, numbers in item.lists().items())


def vm_template(item: VmTemplate) -> str:
    """The ``<VMTEMPLATE>`` document."""
    return (
        f"<VMTEMPLATE>{_named(item.id, item.name)}{element('REGTIME', item.regtime)}"
        f"<TEMPLATE>{to_xml(item.template)}</TEMPLATE></VMTEMPLATE>"
    )
