"""Steps as netlink messages, by subject."""

import errno
import os

from pyroute2.netlink.exceptions import NetlinkError

from onedock.nodeside.agent import ovs
from onedock.nodeside.agent.apply.host import apply_to_host
from onedock.nodeside.agent.apply.nic import apply_to_nic
from onedock.nodeside.agent.apply.routes import apply_to_routes
from onedock.nodeside.agent.apply.rules import apply_rules
from onedock.nodeside.agent.apply.shaping import apply_limit
from onedock.nodeside.agent.apply.uplink import apply_to_uplink
from onedock.nodeside.agent.kernel import Kernel
from onedock.nodeside.agent.steps import ConfigureSwitch, HostStep, NicStep, RouteStep, RulesStep, Step, UplinkStep
from onedock.nodeside.agent.steps.words import in_words
from onedock.reconcilers.errors import TerminalError, TransientError

__all__ = ["apply"]

_REFUSALS = frozenset(
    {
        errno.EINVAL,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ERANGE,
        errno.ELOOP,
    }
)
"""What the kernel answers to a request that can never work; all else may be a race with others."""


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
        if error.code == errno.EXFULL:
            raise TerminalError(
                "the bridge is full: Linux gives one no more than 1023 ports;"
                f" use another host or another BRIDGE for this network ({in_words(step)})"
            ) from error
        reason = os.strerror(error.code) if error.code else str(error)
        if error.code in _REFUSALS:
            raise TerminalError(f"the node's kernel refuses {step}: {reason}; correct the NIC") from error
        raise TransientError(f"{step} failed on the node: {reason}; it is tried again") from error
