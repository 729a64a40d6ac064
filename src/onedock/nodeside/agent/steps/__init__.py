"""The closed set of changes to a VM's network, by subject. ``apply`` knows how each is said to the kernel."""

from onedock.nodeside.agent.steps.host import (
    CreateBridge,
    DeleteHostLink,
    HostStep,
    Label,
    PlugIn,
    RaiseHostLink,
    SetHostMtu,
)
from onedock.nodeside.agent.steps.nic import (
    AddAddress,
    CreateNamespace,
    CreateVeth,
    NicStep,
    RaiseLoopback,
    RaiseNic,
    RemoveAddress,
    SetMac,
    SetMtu,
)
from onedock.nodeside.agent.steps.routes import AddGateway, RemoveGateway, RouteStep

Step = HostStep | NicStep | RouteStep

__all__ = [
    "AddAddress",
    "AddGateway",
    "CreateBridge",
    "CreateNamespace",
    "CreateVeth",
    "DeleteHostLink",
    "HostStep",
    "Label",
    "NicStep",
    "PlugIn",
    "RaiseHostLink",
    "RaiseLoopback",
    "RaiseNic",
    "RemoveAddress",
    "RemoveGateway",
    "RouteStep",
    "SetHostMtu",
    "SetMac",
    "SetMtu",
    "Step",
]
