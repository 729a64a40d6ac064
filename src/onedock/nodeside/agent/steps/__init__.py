"""The closed set of changes to a VM's network, by subject. ``apply`` knows how each is said to the kernel."""

from onedock.nodeside.agent.steps.host import (
    CreateBridge,
    DeleteHostLink,
    HostStep,
    Label,
    PlugIn,
    RaiseHostLink,
    SetHostMtu,
    Unplug,
)
from onedock.nodeside.agent.steps.nic import (
    AddAddress,
    CreateNamespace,
    CreateVeth,
    NicStep,
    RaiseLoopback,
    RaiseNic,
    RemoveAddress,
    SetIpv4,
    SetIpv6,
    SetMac,
    SetMtu,
)
from onedock.nodeside.agent.steps.ovs import ConfigureSwitch, SwitchStep
from onedock.nodeside.agent.steps.routes import (
    AddConnected,
    AddGateway,
    AddRoute,
    RemoveGateway,
    RemoveRoute,
    RouteStep,
)
from onedock.nodeside.agent.steps.rules import DropRules, LoadRules, RulesStep, Scope
from onedock.nodeside.agent.steps.shaping import Shape, ShapingStep, Unshape
from onedock.nodeside.agent.steps.uplink import (
    AddPortVlans,
    AddRemote,
    CreateUplink,
    FilterVlans,
    PortVlan,
    RemovePortVlans,
    RemoveRemote,
    UplinkStep,
)

Step = HostStep | NicStep | RouteStep | UplinkStep | ShapingStep | RulesStep | SwitchStep

__all__ = [
    "AddAddress",
    "AddConnected",
    "AddGateway",
    "AddPortVlans",
    "AddRemote",
    "AddRoute",
    "ConfigureSwitch",
    "CreateBridge",
    "CreateNamespace",
    "CreateUplink",
    "CreateVeth",
    "DeleteHostLink",
    "DropRules",
    "FilterVlans",
    "HostStep",
    "Label",
    "LoadRules",
    "NicStep",
    "PlugIn",
    "PortVlan",
    "RaiseHostLink",
    "RaiseLoopback",
    "RaiseNic",
    "RemoveAddress",
    "RemoveGateway",
    "RemovePortVlans",
    "RemoveRemote",
    "RemoveRoute",
    "RouteStep",
    "RulesStep",
    "Scope",
    "SetHostMtu",
    "SetIpv4",
    "SetIpv6",
    "SetMac",
    "SetMtu",
    "Shape",
    "ShapingStep",
    "Step",
    "SwitchStep",
    "Unplug",
    "Unshape",
    "UplinkStep",
]
