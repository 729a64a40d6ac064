"""What the agent remembers survives it, and a damaged memory harms nobody else."""

from pathlib import Path

from onedock.nodeside.agent.store import Kept, Store, write_atomically
from onedock.reconcilers.model import ContainerId, Network, Nic, VmId

VM = VmId(22003)
NETWORK = Network(VM, (Nic(0, "eth0", "one-22003-0", "02:00:0a:00:00:01", "br0", ("10.0.0.1/24",), mtu=1400),))
FIRST, SECOND = ContainerId("a" * 64), ContainerId("b" * 64)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "vms")
    store.keep_network(NETWORK)
    store.keep_container(VM, FIRST)
    store.keep_container(VM, SECOND)
    store.keep_container(VM, FIRST)
    store.keep_network(NETWORK)

    again = Store(tmp_path / "vms")
    assert again.get(VM) == Kept(NETWORK, (FIRST, SECOND))
    assert list(again) == [Kept(NETWORK, (FIRST, SECOND))]
    assert (tmp_path / "vms").stat().st_mode & 0o777 == 0o700


def test_a_new_network_leaves_the_bindings(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_container(VM, FIRST)
    store.keep_network(NETWORK)
    assert Store(tmp_path).get(VM) == Kept(NETWORK, (FIRST,))


def test_forgotten_is_forgotten_and_twice_is_success(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep_network(NETWORK)
    store.forget(VM)
    store.forget(VM)
    assert store.get(VM) is None
    assert list(Store(tmp_path)) == []


def test_a_damaged_file_is_left_alone_and_the_others_are_read(tmp_path: Path) -> None:
    Store(tmp_path).keep_network(NETWORK)
    for name, content in (("1.json", b'{"network": {"vm": 1'), ("2.json", b"[]"), (".3.json.new", b"{}")):
        (tmp_path / name).write_bytes(content)
    store = Store(tmp_path)
    assert [kept.network.vm for kept in store] == [VM]
    assert (tmp_path / "1.json").read_bytes() == b'{"network": {"vm": 1'


def test_an_atomic_write_replaces_the_whole_and_leaves_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "x"
    write_atomically(file, b"old" * 1000)
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_removal_that_began_is_known_after_a_restart_and_a_new_network_ends_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin_removal(VM)
    assert store.get(VM) is None, "nothing was remembered, so nothing is to be removed"
    store.keep_network(NETWORK)
    store.begin_removal(VM)
    assert Store(tmp_path).get(VM) == Kept(NETWORK, removing=True)
    store.keep_network(NETWORK)
    assert Store(tmp_path).get(VM) == Kept(NETWORK)
