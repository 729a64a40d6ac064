"""The life-cycle table of the embedded OpenNebula."""

import pytest

from onedock.lab.opennebula import hot_actions, recovery
from onedock.lab.opennebula.lcm import WrongStateError, on_action, on_answer, on_report
from onedock.lab.opennebula.states import LcmState as Lcm
from onedock.lab.opennebula.states import VmState

ACTIVE = VmState.ACTIVE


def requests(step: object) -> list[str]:
    return [request.name for request in step.requests]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("action", "state", "lcm", "target", "sent"),
    [
        ("terminate", ACTIVE, Lcm.RUNNING, Lcm.SHUTDOWN, ["SHUTDOWN"]),
        ("terminate-hard", ACTIVE, Lcm.UNKNOWN, Lcm.SHUTDOWN, ["CANCEL"]),
        ("terminate-hard", ACTIVE, Lcm.SHUTDOWN, Lcm.SHUTDOWN, ["DRIVER_CANCEL", "CANCEL"]),
        ("terminate", VmState.POWEROFF, Lcm.LCM_INIT, Lcm.EPILOG, ["epilog"]),
        ("terminate", VmState.UNDEPLOYED, Lcm.LCM_INIT, Lcm.EPILOG, ["epilog_stopped"]),
        ("poweroff", ACTIVE, Lcm.RUNNING, Lcm.SHUTDOWN_POWEROFF, ["SHUTDOWN"]),
        ("undeploy", VmState.POWEROFF, Lcm.LCM_INIT, Lcm.EPILOG_UNDEPLOY, ["stop"]),
        ("suspend", ACTIVE, Lcm.RUNNING, Lcm.SAVE_SUSPEND, ["SAVE"]),
        ("stop", VmState.SUSPENDED, Lcm.LCM_INIT, Lcm.EPILOG_STOP, ["stop"]),
        ("resume", VmState.POWEROFF, Lcm.LCM_INIT, Lcm.BOOT_POWEROFF, ["DEPLOY"]),
        ("resume", VmState.SUSPENDED, Lcm.LCM_INIT, Lcm.BOOT_SUSPENDED, ["RESTORE"]),
        ("resume", ACTIVE, Lcm.UNKNOWN, Lcm.BOOT_UNKNOWN, ["DEPLOY"]),
        ("reboot", ACTIVE, Lcm.RUNNING, Lcm.RUNNING, ["REBOOT"]),
        ("reboot-hard", ACTIVE, Lcm.RUNNING, Lcm.RUNNING, ["RESET"]),
    ],
)
def test_actions(action: str, state: VmState, lcm: Lcm, target: Lcm, sent: list[str]) -> None:
    step = on_action(action, state, lcm)
    assert (step.state, step.lcm, requests(step)) == (ACTIVE, target, sent)


@pytest.mark.parametrize(
    ("action", "state", "lcm"),
    [
        ("poweroff", VmState.POWEROFF, Lcm.LCM_INIT),
        ("resume", ACTIVE, Lcm.RUNNING),
        ("terminate", ACTIVE, Lcm.BOOT),
        ("suspend", VmState.DONE, Lcm.LCM_INIT),
        ("dance", ACTIVE, Lcm.RUNNING),
    ],
)
def test_impossible_actions_are_refused(action: str, state: VmState, lcm: Lcm) -> None:
    with pytest.raises(WrongStateError):
        on_action(action, state, lcm)


@pytest.mark.parametrize(
    ("message", "lcm", "good", "bad"),
    [
        ("DEPLOY", Lcm.BOOT, (ACTIVE, Lcm.RUNNING), (ACTIVE, Lcm.BOOT_FAILURE)),
        ("DEPLOY", Lcm.BOOT_POWEROFF, (ACTIVE, Lcm.RUNNING), (VmState.POWEROFF, Lcm.LCM_INIT)),
        ("RESTORE", Lcm.BOOT_SUSPENDED, (ACTIVE, Lcm.RUNNING), (VmState.SUSPENDED, Lcm.LCM_INIT)),
        ("CANCEL", Lcm.SHUTDOWN_POWEROFF, (VmState.POWEROFF, Lcm.LCM_INIT), (ACTIVE, Lcm.RUNNING)),
        ("SHUTDOWN", Lcm.SHUTDOWN, (ACTIVE, Lcm.EPILOG), (ACTIVE, Lcm.RUNNING)),
        ("SAVE", Lcm.SAVE_STOP, (ACTIVE, Lcm.EPILOG_STOP), (ACTIVE, Lcm.RUNNING)),
        ("TRANSFER", Lcm.PROLOG, (ACTIVE, Lcm.BOOT), (ACTIVE, Lcm.PROLOG_FAILURE)),
        ("TRANSFER", Lcm.EPILOG, (VmState.DONE, Lcm.LCM_INIT), (ACTIVE, Lcm.EPILOG_FAILURE)),
        ("MIGRATE", Lcm.MIGRATE, (ACTIVE, Lcm.RUNNING), (ACTIVE, Lcm.RUNNING)),
        ("CLEANUP", Lcm.CLEANUP_RESUBMIT, (VmState.PENDING, Lcm.LCM_INIT), (VmState.PENDING, Lcm.LCM_INIT)),
        ("ATTACHDISK", Lcm.HOTPLUG, (ACTIVE, Lcm.RUNNING), (ACTIVE, Lcm.RUNNING)),
    ],
)
def test_answers(message: str, lcm: Lcm, good: tuple[VmState, Lcm], bad: tuple[VmState, Lcm]) -> None:
    for ok, target in ((True, good), (False, bad)):
        step = on_answer(message, ok, lcm)
        assert step is not None
        assert (step.state, step.lcm) == target


@pytest.mark.parametrize(
    ("message", "lcm"), [("DEPLOY", Lcm.RUNNING), ("SHUTDOWN", Lcm.BOOT), ("RESIZE", Lcm.HOTPLUG), ("X", Lcm.BOOT)]
)
def test_stale_answers_do_nothing(message: str, lcm: Lcm) -> None:
    assert on_answer(message, True, lcm) is None


@pytest.mark.parametrize(("action", "next_request"), [(1, "RESTORE"), (48, "DEPLOY"), (49, "DEPLOY")])
def test_migration_continues_as_it_began(action: int, next_request: str) -> None:
    first = "SAVE" if action == 1 else "SHUTDOWN"
    assert on_answer(first, True, Lcm.SAVE_MIGRATE, record_action=action) is not None
    other = "SHUTDOWN" if action == 1 else "SAVE"
    assert on_answer(other, True, Lcm.SAVE_MIGRATE, record_action=action) is None
    step = on_answer("TRANSFER", True, Lcm.PROLOG_MIGRATE, record_action=action)
    assert requests(step) == [next_request]


@pytest.mark.parametrize(
    ("reported", "state", "lcm", "target"),
    [
        ("RUNNING", VmState.POWEROFF, Lcm.LCM_INIT, (ACTIVE, Lcm.RUNNING)),
        ("RUNNING", ACTIVE, Lcm.UNKNOWN, (ACTIVE, Lcm.RUNNING)),
        ("RUNNING", ACTIVE, Lcm.BOOT, (ACTIVE, Lcm.RUNNING)),
        ("RUNNING", ACTIVE, Lcm.BOOT_FAILURE, (ACTIVE, Lcm.RUNNING)),
        ("RUNNING", ACTIVE, Lcm.RUNNING, None),
        ("POWEROFF", ACTIVE, Lcm.RUNNING, (VmState.POWEROFF, Lcm.LCM_INIT)),
        ("POWEROFF", ACTIVE, Lcm.SHUTDOWN, (ACTIVE, Lcm.EPILOG)),
        ("POWEROFF", ACTIVE, Lcm.BOOT, None),
        ("SUSPENDED", ACTIVE, Lcm.RUNNING, (VmState.SUSPENDED, Lcm.LCM_INIT)),
        ("FAILURE", ACTIVE, Lcm.RUNNING, (ACTIVE, Lcm.UNKNOWN)),
        ("UNKNOWN", ACTIVE, Lcm.RUNNING, None),
        ("POWEROFF", VmState.DONE, Lcm.LCM_INIT, None),
    ],
)
def test_reports(reported: str, state: VmState, lcm: Lcm, target: tuple[VmState, Lcm] | None) -> None:
    step = on_report(reported, state, lcm)
    assert (None if step is None else (step.state, step.lcm)) == target


@pytest.mark.parametrize(
    ("lcm", "action", "sent"),
    [
        (Lcm.BOOT_FAILURE, 0, ["DEPLOY"]),
        (Lcm.BOOT, 0, ["DEPLOY"]),
        (Lcm.BOOT_UNDEPLOY, 0, ["RESTORE"]),
        (Lcm.SHUTDOWN, 27, ["SHUTDOWN"]),
        (Lcm.SHUTDOWN_POWEROFF, 19, ["CANCEL"]),
        (Lcm.EPILOG_FAILURE, 0, ["epilog"]),
        (Lcm.PROLOG, 0, ["prolog"]),
    ],
)
def test_retry_sends_again(lcm: Lcm, action: int, sent: list[str]) -> None:
    assert requests(recovery.on_retry(lcm, action)) == sent


@pytest.mark.parametrize("lcm", [Lcm.RUNNING, Lcm.HOTPLUG, Lcm.UNKNOWN])
def test_retry_without_request_does_nothing(lcm: Lcm) -> None:
    assert recovery.on_retry(lcm) is None


@pytest.mark.parametrize(
    ("state", "lcm", "recreate", "sent"),
    [
        (ACTIVE, Lcm.BOOT, False, ["DRIVER_CANCEL", "CLEANUP"]),
        (ACTIVE, Lcm.PROLOG, False, ["delete"]),
        (ACTIVE, Lcm.PROLOG_MIGRATE, False, ["delete_both"]),
        (VmState.POWEROFF, Lcm.LCM_INIT, False, ["delete"]),
        (VmState.POWEROFF, Lcm.LCM_INIT, True, ["CLEANUP"]),
        (VmState.STOPPED, Lcm.LCM_INIT, False, ["delete_stopped"]),
        (VmState.PENDING, Lcm.LCM_INIT, False, []),
    ],
)
def test_delete_cleans_up(state: VmState, lcm: Lcm, recreate: bool, sent: list[str]) -> None:
    assert requests(recovery.on_delete(state, lcm, recreate=recreate)) == sent


def test_hot_actions_need_a_running_vm_or_a_cold_way() -> None:
    assert requests(hot_actions.on_hot_action("disk-attach", ACTIVE, Lcm.RUNNING)) == ["ATTACHDISK"]
    assert requests(hot_actions.on_hot_action("disk-attach", VmState.POWEROFF, Lcm.LCM_INIT)) == ["prolog_attach"]
    with pytest.raises(WrongStateError):
        hot_actions.on_hot_action("resize", VmState.SUSPENDED, Lcm.LCM_INIT)


def test_every_state_that_waits_can_be_recovered_by_hand() -> None:
    waiting = [lcm for lcm in Lcm if recovery.awaited(lcm)]
    for lcm in waiting:
        message = recovery.awaited(lcm)
        assert message is not None
        assert on_answer(message, True, lcm) is not None, lcm.name
        assert on_answer(message, False, lcm) is not None, lcm.name
