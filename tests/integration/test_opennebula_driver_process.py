"""How the embedded OpenNebula starts a driver: arguments, descriptors, signals and the handshake."""

import json
import sys
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from onedock.lab.opennebula import mad
from onedock.lab.opennebula.mad import Driver, DriverStartError, Message

SHOW = """
import json, os, sys
mask = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("SigBlk"))
print("INIT SUCCESS", flush=True)
first = sys.stdin.readline()
try:
    os.fstat(2)
    second = "open"
except OSError:
    second = "closed"
with open(sys.argv[1].split()[0], "w") as file:
    json.dump({"argv": sys.argv[1:], "fd2": second, "mask": mask, "first": first}, file)
for line in sys.stdin:
    sys.stdout.write(line.replace("ASK", "TELL SUCCESS").replace("  ", " "))
    sys.stdout.flush()
"""


def program(directory: Path, text: str) -> str:
    path = directory / "driver"
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)
    return str(path)


async def test_child_gets_one_argument_no_stderr_and_a_full_mask(tmp_path: Path) -> None:
    told: list[Message] = []
    driver = Driver("vmm", program(tmp_path, SHOW), f"{tmp_path}/facts -t 15 'a b'", told.append)
    await driver.start()
    driver.write("ASK  7 some text")
    await eventually(lambda: told, what="the driver answers")
    await driver.stop()
    facts = json.loads((tmp_path / "facts").read_text())
    assert facts["argv"] == [f"{tmp_path}/facts -t 15 'a b'"]
    assert facts["fd2"] == "closed"
    assert facts["first"] == "INIT\n"
    assert int(facts["mask"], 16) & (1 << 14)  # SIGTERM; SIGKILL and SIGSTOP cannot be blocked
    assert told == [Message("TELL", "SUCCESS", 7, "some text")]


@pytest.mark.parametrize(
    ("text", "seconds", "problem"),
    [
        ("import sys\nprint('HELLO', flush=True)\nsys.stdin.read()", 30, "HELLO"),
        ("import sys\nsys.stdin.read()", 0.5, "b''"),
        ("raise SystemExit(3)", 30, "b''"),
    ],
)
async def test_bad_handshakes_are_refused(tmp_path: Path, text: str, seconds: float, problem: str) -> None:
    driver = Driver("vmm", program(tmp_path, text), "", lambda message: None, handshake_seconds=seconds)
    with pytest.raises(DriverStartError, match=problem):
        await driver.start()


async def test_missing_driver_is_named(tmp_path: Path) -> None:
    with pytest.raises(DriverStartError, match="does not exist"):
        await Driver("vmm", f"{tmp_path}/none", "", lambda message: None).start()


async def test_what_follows_the_handshake_in_the_same_read_is_lost(tmp_path: Path) -> None:
    text = """
import sys
sys.stdin.readline()
sys.stdout.write("INIT SUCCESS\\nDEPLOY SUCCESS 1 one-1\\n")
sys.stdout.flush()
for line in sys.stdin:
    sys.stdout.write("DEPLOY SUCCESS 2 one-2\\n")
    sys.stdout.flush()
"""
    told: list[Message] = []
    driver = Driver("vmm", program(tmp_path, text), "", told.append)
    await driver.start()
    driver.write("ASK  2 ")
    await eventually(lambda: any(message.id == 2 for message in told), what="the second line arrives")
    await driver.stop()
    assert all(message.id != 1 for message in told)


def test_ids_that_are_no_numbers_read_as_zero() -> None:
    assert mad.read_line("DEPLOY SUCCESS x one-1\n") == Message("DEPLOY", "SUCCESS", 0, "one-1")
    assert mad.read_line("LOG I -1 some  text\n") == Message("LOG", "I", -1, "some  text")
    assert mad.read_line("two words\n") is None
