"""What is remembered of DHCP clients: over the agent's end, and nothing that is not ours is touched."""

from pathlib import Path

from onedock.nodeside.agent.dhcp.lease import Lease
from onedock.nodeside.agent.dhcp.store import Kept, LeaseStore
from onedock.reconcilers.model import VmId

KEY = (VmId(42), 1)
KEPT = Kept(Lease("10.5.0.20/24", 3600, 1.5, routes=(("0.0.0.0/0", "10.5.0.1"),), mtu=1400), pid=7, started=99)


def test_a_lease_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    LeaseStore(tmp_path / "dhcp").keep(KEY, KEPT)
    again = LeaseStore(tmp_path / "dhcp")
    assert list(again) == [KEY]
    assert again.get(KEY) == KEPT
    again.forget(KEY)
    again.forget(KEY)
    assert again.get(KEY) == Kept()
    assert list(LeaseStore(tmp_path / "dhcp")) == []


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    for name in ("42-1.json", "notes.json", "42.json"):
        (tmp_path / name).write_text("{]")
    assert list(LeaseStore(tmp_path)) == []
    assert {file.name for file in tmp_path.iterdir()} == {"42-1.json", "notes.json", "42.json"}
