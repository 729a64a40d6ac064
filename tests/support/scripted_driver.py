"""A driver that answers as it is told: every line it reads is written down, answers come from a directory.

Run as ``python scripted_driver.py "<directory>"``, the way oned starts drivers. Lines read go to ``<directory>/lines``.
A request ``TYPE`` is answered with what ``<directory>/answers/TYPE`` holds (lines with ``{id}``), by default SUCCESS;
an empty file means no answer. Lines appended to ``<directory>/say`` are printed as they are.
"""

import fcntl
import os
import select
import sys
import termios
import time
from pathlib import Path

DEFAULTS = {"DEPLOY": "DEPLOY SUCCESS {id} one-{id}"}


def main() -> None:
    directory = Path(sys.argv[1].split()[0])
    lines = (directory / "lines").open("a", buffering=1)
    say, position = directory / "say", directory / "said"
    say.touch()
    said = int(position.read_text()) if position.exists() else 0
    buffer, greeted = b"", False
    while True:
        ready, _, _ = select.select([0], [], [], 0.01)
        spoken = say.read_bytes()[said:] if greeted else b""
        if spoken.endswith(b"\n"):
            said += len(spoken)
            position.write_text(str(said))
            os.write(1, spoken)
        if not ready:
            continue
        data = os.read(0, 1 << 20)
        if not data:
            return
        *complete, buffer = (buffer + data).split(b"\n")
        for raw in complete:
            line = raw.decode()
            if line == "INIT":
                os.write(1, b"INIT SUCCESS\n")
                # what is said in the same read as the greeting would be lost
                while any(fcntl.ioctl(1, termios.FIONREAD, bytes(4))):
                    time.sleep(0.001)
                greeted = True
                continue
            if line == "FINALIZE":
                return
            lines.write(line + "\n")
            reply(directory, line)


def reply(directory: Path, line: str) -> None:
    words = line.split()
    kind, number = words[0], words[2] if words[1] == "-" else words[1]
    if kind in ("START_MONITOR", "STOP_MONITOR"):
        os.write(1, f"{kind} SUCCESS {number} {int(time.time())}\n".encode())
        return
    answer = directory / "answers" / kind
    text = answer.read_text() if answer.exists() else DEFAULTS.get(kind, f"{kind} SUCCESS {{id}} -")
    for part in text.splitlines():
        os.write(1, (part.replace("{id}", number) + "\n").encode())


if __name__ == "__main__":
    main()
