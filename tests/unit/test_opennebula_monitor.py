"""The rules of STATE_VM and the texts of monitoring messages."""

import base64

import pytest

from onedock.lab.opennebula import monitor
from onedock.lab.opennebula.objects import History, Vm
from onedock.lab.opennebula.states import LcmState, VmState
from onedock.lab.opennebula.templates import TemplateError

NOW = 1_000_000


def running(*, started: int = NOW - 1000, ended: int = 0, lcm: LcmState = LcmState.RUNNING) -> Vm:
    record = History(0, "node1", 1, 101, "onedock", "onedock", rstime=started, retime=ended)
    return Vm(7, "web", {}, {}, stime=0, state=VmState.ACTIVE, lcm_state=lcm, history=[record])


@pytest.mark.parametrize(
    ("started", "ended", "guarded"),
    [(NOW - 1000, 0, False), (NOW - 29, 0, True), (NOW - 30, 0, False), (NOW - 1000, NOW - 5, True)],
)
def test_fresh_states_are_guarded(started: int, ended: int, guarded: bool) -> None:
    assert monitor.guarded(running(started=started, ended=ended), NOW, monitor.GUARD_SECONDS) is guarded


def test_only_the_current_host_may_report() -> None:
    vm = running()
    assert monitor.belongs(vm, 1)
    assert not monitor.belongs(vm, 2)
    vm.state = VmState.DONE
    assert not monitor.belongs(vm, 1)
    assert not monitor.belongs(Vm(8, "new", {}, {}, stime=0), 1)


@pytest.mark.parametrize(
    ("lcm", "missing", "target"),
    [
        (LcmState.RUNNING, "POWEROFF", (VmState.POWEROFF, LcmState.LCM_INIT)),
        (LcmState.UNKNOWN, "POWEROFF", (VmState.POWEROFF, LcmState.LCM_INIT)),
        (LcmState.SHUTDOWN_POWEROFF, "POWEROFF", (VmState.POWEROFF, LcmState.LCM_INIT)),
        (LcmState.RUNNING, "UNKNOWN", (VmState.ACTIVE, LcmState.UNKNOWN)),
        (LcmState.BOOT, "POWEROFF", None),
        (LcmState.HOTPLUG, "POWEROFF", None),
    ],
)
def test_missing_vms_of_a_complete_list(lcm: LcmState, missing: str, target: tuple[VmState, LcmState] | None) -> None:
    step = monitor.missing_step(running(started=NOW, lcm=lcm), missing)
    assert (None if step is None else (step.state, step.lcm)) == target


def test_list_is_complete_only_with_both_words() -> None:
    entry = 'VM=[ID="7",DEPLOY_ID="one-7",STATE="RUNNING"]\n'
    both = monitor.state_report(f"SYNC_STATE=yes\nMISSING_STATE=POWEROFF\n{entry}")
    assert both == monitor.StateReport((monitor.VmReport(7, "one-7", "RUNNING"),), "POWEROFF")
    assert monitor.state_report(f"MISSING_STATE=POWEROFF\n{entry}").missing == ""
    assert monitor.state_report(f"SYNC_STATE=yes\n{entry}").missing == ""


def test_messages_are_decoded() -> None:
    line = f"STATE_VM SUCCESS 3 17 {monitor.encode('VM=[ID=7]')}\n"
    assert monitor.read(line) == monitor.MonitorMessage("STATE_VM", True, 3, 17, "VM=[ID=7]")
    assert monitor.read("BEACON_HOST FAILURE 3 17").text == ""
    assert monitor.encode("") == ""


@pytest.mark.parametrize("line", ["", "STATE_VM SUCCESS 3", "STATE_VM SUCCESS x 1 eJw=", "STATE_VM SUCCESS 3 1 ###"])
def test_bad_messages_are_refused(line: str) -> None:
    with pytest.raises(monitor.MonitorMessageError):
        monitor.read(line)


def test_vm_monitoring_is_merged_and_strangers_left_out() -> None:
    def entry(number: int, text: str) -> str:
        return f'VM=[ID="{number}",MONITOR="{base64.b64encode(text.encode()).decode()}"]\n'

    text = entry(7, 'CPU="3.5"\nDISK_SIZE=[ID=0,SIZE=5]') + entry(7, "MEMORY=20480") + entry(-1, "CPU=1")
    assert monitor.vm_monitoring(text) == {7: {"CPU": "3.5", "MEMORY": "20480"}}
    with pytest.raises(TemplateError):
        monitor.vm_monitoring('VM=[ID="7",MONITOR="###"]')
