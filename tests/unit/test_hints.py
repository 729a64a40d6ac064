"""Hints of oned's hook manager, from a real ZeroMQ publisher with recorded events."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from onedock.controller.hints import listen, vm_in
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmId

EVENTS = [json.loads(line) for line in (Path(__file__).parents[1] / "fixtures/events.jsonl").read_text().splitlines()]
RECORDED = [event for event in EVENTS if "key" in event]


def test_only_state_events_of_vms_name_a_vm() -> None:
    named = {event["key"]: vm_in(event["key"].encode()) for event in RECORDED}
    for key, vm in named.items():
        is_state = key.startswith("EVENT STATE VM/")
        assert (vm is not None) == is_state, key
        if vm is not None:
            assert key.strip().endswith(f"/{vm}")
    assert any(vm is not None for vm in named.values())


@pytest.mark.parametrize(
    "key", [b"", b"EVENT STATE VM/", b"EVENT STATE VM/A/B/x ", b"EVENT STATE VM/A/B/99999999999 ", b"\xff"]
)
def test_strange_keys_name_nothing(key: bytes) -> None:
    assert vm_in(key) is None


async def test_recorded_events_arrive_as_hints() -> None:
    hints: asyncio.Queue[VmId] = asyncio.Queue()
    context = zmq.asyncio.Context()
    publisher = context.socket(zmq.XPUB)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    listener = asyncio.create_task(listen(f"tcp://127.0.0.1:{port}", hints.put_nowait))
    try:
        async with asyncio.timeout(10):
            await publisher.recv()  # the subscription has arrived
            expected = []
            for event in RECORDED:
                key = event["key"].encode()
                await publisher.send_multipart([key, base64.b64encode(event["content"].encode())])
                if (vm := vm_in(key)) is not None:
                    expected.append(vm)
            assert [await hints.get() for _ in expected] == expected
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
        publisher.close(linger=0)
        context.term()


async def test_a_senseless_address_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(TerminalError, match=r"opennebula\.events"):
        await listen("nonsense", lambda vm: None)
