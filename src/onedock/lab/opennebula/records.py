"""The history marks of :mod:`onedock.lab.opennebula.lcm`, written into the history records of a VM."""

from dataclasses import replace

from onedock.lab.opennebula.lcm import Mark
from onedock.lab.opennebula.objects import History, Vm
from onedock.lab.opennebula.states import ACTION_CODES, LcmState, VmState


def write(vm: Vm, marks: tuple[Mark, ...], *, now: int, action: str, request_id: int) -> None:
    """Applies the marks in order.

    Args:
        vm: The VM; its state is still the one before the step.
        marks: What happens.
        now: Epoch seconds.
        action: Name of the user's action, "" when nobody asked.
        request_id: Number of the request that asked.
    """
    for mark in marks:
        if not vm.history:
            return
        record = vm.record
        match mark:
            case Mark.ACTION:
                record.action = ACTION_CODES[action]
                record.uid, record.gid, record.request_id = 0, 0, request_id
            case Mark.MONITOR_ACTION:
                record.action = ACTION_CODES["monitor"]
                record.uid, record.gid, record.request_id = -1, -1, -1
            case Mark.CLEAR_ACTION:
                record.action = 0
                record.uid, record.gid, record.request_id = -1, -1, -1
            case Mark.OPEN:
                vm.history.append(_successor(vm, now))
            case Mark.CLOSE:
                record.etime = now
            case Mark.PREVIOUS_END:
                previous = vm.history[-2]
                previous.retime, previous.etime = now, now
            case Mark.RETURN:
                record.etime = now
                vm.history.append(_fresh(vm.history[-2], record.seq + 1, now))
                vm.record.rstime = now
            case Mark.PROLOG_START:
                record.pstime = now
            case Mark.PROLOG_END:
                record.petime = now
            case Mark.RUN_START:
                record.rstime, record.retime = now, 0
            case Mark.RUN_END:
                record.retime = now
            case Mark.RUNS:
                record.retime = 0
            case Mark.EPILOG_START:
                record.estime = now
            case Mark.EPILOG_END:
                record.eetime = now


def _fresh(like: History, seq: int, now: int) -> History:
    return History(
        seq=seq,
        hostname=like.hostname,
        hid=like.hid,
        ds_id=like.ds_id,
        vm_mad=like.vm_mad,
        tm_mad=like.tm_mad,
        stime=now,
    )


def _successor(vm: Vm, now: int) -> History:
    record = _fresh(vm.record, vm.record.seq + 1, now)
    if vm.state is VmState.POWEROFF:  # recorded: a record opened for a powered-off VM says that it was powered off
        record.action = ACTION_CODES["poweroff-hard"]
    return record


def start(vm: Vm, record: History, now: int) -> None:
    """Opens the record of a deployment."""
    seq = vm.record.seq + 1 if vm.history else 0
    vm.history.append(replace(record, seq=seq, stime=now, pstime=now))


def set_state(vm: Vm, state: VmState, lcm: LcmState) -> None:
    """Moves the VM; the previous state follows at once, as in every recorded document."""
    vm.state, vm.lcm_state = state, lcm
    vm.prev_state, vm.prev_lcm_state = state, lcm
