"""Steps as people read them in logs and in heals."""

import pytest

from onedock.nodeside.agent import steps
from onedock.nodeside.agent.steps.words import in_words


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (steps.AddAddress("eth0", "10.0.0.7/24"), "add address eth0 10.0.0.7/24"),
        (steps.CreateBridge("br0", None), "create bridge br0"),
        (steps.CreateBridge("br0", None, (("stp", "1"),)), "create bridge br0 stp=1"),
        (steps.CreateUplink("p.7", "vlan", "p", "br0", None, (("id", "7"),)), "create uplink p.7 vlan p br0 id=7"),
        (steps.AddPortVlans("one-7-0", ((7, False), (8, True))), "add port vlans one-7-0 7=tagged 8=own"),
    ],
)
def test_what_is_done_and_to_what(step: steps.Step, words: str) -> None:
    assert in_words(step) == words


def test_a_trunk_of_all_vlans_is_cut() -> None:
    assert len(in_words(steps.AddPortVlans("one-7-0", tuple((vid, False) for vid in range(1, 4095))))) < 200
