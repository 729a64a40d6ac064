"""What the kernel's refusal of a step means to whoever wrote the NIC. Pure."""

import errno
import os

from onedock.nodeside.agent.steps import CreateUplink, Step
from onedock.nodeside.agent.steps.words import in_words
from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError

_FOR_GOOD = frozenset(
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
_MODULES = {"vlan": "8021q", "vxlan": "vxlan"}


def refusal(step: Step, code: int, text: str) -> OnedockError:
    """The error that says it, cause first.

    Args:
        step: what was asked of the kernel.
        code: its errno; 0: none.
        text: what is known without one.
    """
    words, reason = in_words(step), os.strerror(code) if code else text
    if code == errno.EXFULL:
        return TerminalError(
            "the bridge is full: Linux gives one no more than 1023 ports;"
            f" use another host or another BRIDGE for this network ({words})"
        )
    if code == errno.EOPNOTSUPP and isinstance(step, CreateUplink):
        return TerminalError(
            f"the node's kernel makes no {step.kind} link of {step.lower or 'any device'}:"
            f" load its module {_MODULES[step.kind]}, or use another VN_MAD ({words})"
        )
    if code == errno.EEXIST and isinstance(step, CreateUplink):
        return TransientError(
            f"another {step.kind} link of this node has the id of {step.name} already:"
            f" remove it there, or give the network another VLAN_ID ({words}); it is tried again"
        )
    if code in _FOR_GOOD:
        return TerminalError(f"the node's kernel refuses to {words}: {reason}; correct the NIC")
    return TransientError(f"the node could not {words}: {reason}; it is tried again")
