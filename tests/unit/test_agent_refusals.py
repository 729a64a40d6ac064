"""What people read when the kernel refuses a step: the cause first, nothing of how a step is written here."""

import errno

import pytest

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.apply.refusals import refusal
from onedock.reconcilers.errors import TerminalError, TransientError

VLAN = steps.CreateUplink("eth1.70", "vlan", "eth1", "onebr.70", None, (("id", "70"),))
ADDRESS = steps.AddAddress("eth0", "10.0.0.7/24")


@pytest.mark.parametrize(
    ("step", "code", "kind", "begin"),
    [
        # Recorded: a kernel without 8021q answers EOPNOTSUPP.
        (
            VLAN,
            errno.EOPNOTSUPP,
            TerminalError,
            "the node's kernel makes no vlan link of eth1: load its module 8021q, or",
        ),
        (VLAN, errno.EEXIST, TransientError, "another vlan link of this node has the id of eth1.70 already: remove it"),
        (VLAN, errno.EINVAL, TerminalError, "the node's kernel refuses to create uplink eth1.70 vlan eth1"),
        (VLAN, errno.EXFULL, TerminalError, "the bridge is full"),
        (ADDRESS, errno.ENODEV, TransientError, "the node could not add address eth0 10.0.0.7/24: No such device; it"),
        (ADDRESS, 0, TransientError, "the node could not add address eth0 10.0.0.7/24: nobody knows; it is tried"),
    ],
)
def test_the_cause_comes_first(step: steps.Step, code: int, kind: type[Exception], begin: str) -> None:
    error = refusal(step, code, "nobody knows")
    assert type(error) is kind
    assert str(error).startswith(begin)
    assert "(name=" not in str(error)
