"""Proof that a driver starts: oned itself ends when one does not (protocol reference 1.1)."""

import os
import select
import signal
import subprocess
from pathlib import Path

from onedock.install.steps import InstallError, Owner

HANDSHAKE_S = 10.0
_ANSWER_BYTES = 31
_END_S = 2.0


def prove(executable: Path, arguments: str, user: Owner) -> None:
    """Start a driver as oned does, and take its answer to INIT as oned does. Raises InstallError.

    Args:
        executable: the driver.
        arguments: ARGUMENTS of its stanza.
        user: oned's; used when this process may become another.
    """
    become = os.geteuid() == 0
    try:
        process = subprocess.Popen(
            [executable, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            preexec_fn=_as_oned_does,
            user=user[0] if become else None,
            group=user[1] if become else None,
            extra_groups=() if become else None,
        )
    except OSError as error:
        raise InstallError(
            f"driver {executable} cannot be executed: {error.strerror}; "
            "its directories must be open to oned's user, and /usr/bin/python3 be there"
        ) from None
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        answer = _init(process)
        if answer.split()[:2] != [b"INIT", b"SUCCESS"]:
            raise InstallError(
                f"driver {executable} answered INIT with {answer!r} within {HANDSHAKE_S:g} s, not INIT SUCCESS; oned "
                f"would not start with it. Run  echo INIT | {executable} '{arguments}'  as oned's user to see why"
            )
    finally:
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _init(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"INIT\n")
    except BrokenPipeError:
        return b""
    ready, _, _ = select.select([process.stdout], [], [], HANDSHAKE_S)
    return os.read(process.stdout.fileno(), _ANSWER_BYTES) if ready else b""


def _as_oned_does() -> None:
    os.close(2)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
