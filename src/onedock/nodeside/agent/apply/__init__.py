"""Steps as netlink messages, by subject."""

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import ovs
from onedock.nodeside.agent.apply.host import apply_to_host
from onedock.nodeside.agent.apply.nic import apply_to_nic
from onedock.nodeside.agent.apply.refusals import refusal
from onedock.nodeside.agent.apply.routes import apply_to_routes
from onedock.nodeside.agent.apply.rules import apply_rules
from onedock.nodeside.agent.apply.shaping import apply_limit
from onedock.nodeside.agent.apply.uplink import apply_to_uplink
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.steps import ConfigureSwitch, HostStep, NicStep, RouteStep, RulesStep, Step, UplinkStep

__all__ = ["apply"]


def apply(kernel: Kernel, step: Step) -> None:
    """Do one step. TerminalError: the kernel refuses for good; TransientError: the world changed."""
    try:
        if isinstance(step, HostStep):
            apply_to_host(kernel, step)
        elif isinstance(step, NicStep):
            apply_to_nic(kernel, step)
        elif isinstance(step, RouteStep):
            apply_to_routes(kernel, step)
        elif isinstance(step, UplinkStep):
            apply_to_uplink(kernel, step)
        elif isinstance(step, RulesStep):
            apply_rules(kernel, step)
        elif isinstance(step, ConfigureSwitch):
            ovs.transact(step.commands)
        else:
            apply_limit(kernel, step)
    except NetlinkError as error:
        raise refusal(step, error.code, str(error)) from error
