"""Hosts: their documents, their capacity, and what monitoring makes of them."""

from collections.abc import Iterable

from onedock.lab.opennebula.documents import element, elements, ids
from onedock.lab.opennebula.objects import Host, Vm
from onedock.lab.opennebula.states import HostState, VmState
from onedock.lab.opennebula.templates import Template, Vector, cdata, get, to_xml

_HOLDING = (VmState.ACTIVE, VmState.POWEROFF, VmState.SUSPENDED)
_CAPACITY = {"FREECPU": "FREE_CPU", "FREEMEMORY": "FREE_MEMORY", "USEDCPU": "USED_CPU", "USEDMEMORY": "USED_MEMORY"}


def on_host(vms: Iterable[Vm], host_id: int) -> list[Vm]:
    """The VMs that hold capacity on that host."""
    return [vm for vm in vms if vm.state in _HOLDING and vm.history and vm.record.hid == host_id]


def usage(vms: Iterable[Vm]) -> tuple[int, int]:
    """CPU (percent of a core) and memory (KB) that these VMs hold."""
    cpu, memory = 0, 0
    for vm in vms:
        cpu += round(_number(vm.template, "CPU") * 100)
        memory += round(_number(vm.template, "MEMORY") * 1024)
    return cpu, memory


def capacity(host: Host) -> tuple[int, int]:
    """Total CPU (percent of a core) and memory (KB) of the host."""
    return round(_number(host.template, "TOTALCPU")), round(_number(host.template, "TOTALMEMORY"))


def _number(template: Template, name: str) -> float:
    try:
        return float(get(template, name))
    except ValueError:  # missing, or nonsense from outside: nothing there
        return 0.0


def document(host: Host, vms: Iterable[Vm], *, monitoring: bool) -> str:
    """The ``<HOST>`` document; pools leave ``monitoring`` out."""
    held = on_host(vms, host.id)
    cpu, memory = usage(held)
    total_cpu, total_memory = capacity(host)
    disks = ""
    if host.system_seen:
        disks = "".join(cdata(key, "0") for key in ("DISK_USAGE", "FREE_DISK", "MAX_DISK", "USED_DISK"))
    return (
        "<HOST>"
        + identity(host)
        + "<HOST_SHARE>"
        + elements(MEM_USAGE=memory, CPU_USAGE=cpu, TOTAL_MEM=total_memory, TOTAL_CPU=total_cpu)
        + elements(MAX_MEM=total_memory, MAX_CPU=total_cpu, RUNNING_VMS=len(held), VMS_THREAD=1)
        + f"<DATASTORES>{disks}</DATASTORES><PCI_DEVICES></PCI_DEVICES><NUMA_NODES></NUMA_NODES></HOST_SHARE>"
        + ids("VMS", sorted(vm.id for vm in held))
        + f"<TEMPLATE>{to_xml(host.template)}</TEMPLATE>"
        + (monitoring_record(host) if monitoring and host.monitoring else "<MONITORING/>")
        + "</HOST>"
    )


def identity(host: Host) -> str:
    """The elements that start every document about a host, also those of monitord."""
    return (
        elements(ID=host.id, NAME=host.name, STATE=int(host.state), PREV_STATE=int(host.state))
        + cdata("IM_MAD", host.im_mad)
        + cdata("VM_MAD", host.vm_mad)
        + elements(CLUSTER_ID=0, CLUSTER="default")
    )


def monitoring_record(host: Host) -> str:
    """The last MONITOR_HOST as ``<MONITORING>``."""
    values = host.monitoring
    known = "".join(cdata(new, values[old]) for old, new in _CAPACITY.items() if old in values)
    other = "".join(cdata(key, values[key]) for key in sorted(values) if key not in _CAPACITY)
    head = element("TIMESTAMP", host.monitored_at) + element("ID", host.id)
    return f"<MONITORING>{head}<CAPACITY>{known}</CAPACITY><SYSTEM>{other}</SYSTEM></MONITORING>"


def new_template(im_mad: str, vm_mad: str) -> Template:
    """Template of a host nobody has monitored yet."""
    return {"IM_MAD": [im_mad], "RESERVED_CPU": [""], "RESERVED_MEM": [""], "VM_MAD": [vm_mad]}


def take_system(host: Host, attributes: Template) -> None:
    """SYSTEM_HOST: merged into the template; an enabled host becomes MONITORED and loses its error."""
    host.template.update(attributes)
    host.system_seen = True
    host.template.pop("ERROR", None)
    if host.state in (HostState.INIT, HostState.ERROR):
        host.state = HostState.MONITORED


def take_monitoring(host: Host, attributes: Template, epoch: int) -> None:
    """MONITOR_HOST: the volatile usage."""
    flat: Vector = {name: value for name, values in attributes.items() for value in values if isinstance(value, str)}
    host.monitoring = flat
    host.monitored_at = epoch


def forget_system(host: Host) -> None:
    """An offline host has no capacity (recorded: TOTALCPU and TOTALMEMORY leave the template)."""
    host.template.pop("TOTALCPU", None)
    host.template.pop("TOTALMEMORY", None)
