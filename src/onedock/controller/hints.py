"""Hints from oned's hook manager over ZeroMQ: a VM changed its state, look at it now instead of at the next resync.

Optional (extra ``events``), lossy by nature, never the truth: a hint only names a VM (protocol reference 11.5).
"""

import re
from collections.abc import Callable

import structlog

from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmId

log = structlog.get_logger(__name__)

TOPIC = b"EVENT STATE VM/"
_KEY = re.compile(rb"EVENT STATE VM/[A-Z_]+/[A-Z_]*/([0-9]{1,10}) *")


def vm_in(key: bytes) -> VmId | None:
    """The VM that an event's key names: ``EVENT STATE VM/ACTIVE/RUNNING/42 ``; None for anything else."""
    match = _KEY.fullmatch(key)
    return VmId(int(match[1])) if match else None


async def listen(address: str, hint: Callable[[VmId], None]) -> None:
    """Give every hint to ``hint``, for ever; ZeroMQ reconnects by itself.

    Raises:
        TerminalError: pyzmq is not installed, or the address makes no sense.
    """
    try:
        from zmq import SUB, SUBSCRIBE, ZMQError
        from zmq.asyncio import Context
    except ImportError:
        raise TerminalError(
            "opennebula.events needs pyzmq: install onedock[events], or leave the setting empty"
        ) from None
    context = Context()
    socket = context.socket(SUB)
    try:
        socket.setsockopt(SUBSCRIBE, TOPIC)
        socket.connect(address)
        log.info("listening for events of OpenNebula", address=address)
        while True:
            key, *_ = await socket.recv_multipart()
            if (vm := vm_in(key)) is not None:
                hint(vm)
    except ZMQError as error:
        raise TerminalError(f"opennebula.events = {address!r} cannot be used: {error}") from error
    finally:
        socket.close(linger=0)
        context.term()
