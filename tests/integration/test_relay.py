"""The real driver process between oned's pipes and a controller's socket."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.driver_controller import DriverController
from tests.support.driver_process import NATIVE, DriverProcess
from tests.support.recorded import records, to_im, to_vmm

from onedock.controller import wire
from onedock.controller.driver.relay import Line, Lines

MEGABYTE = 1 << 20
PIPE_SIZE = 65536


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.sock"


@pytest.fixture
def controller(path: Path) -> Iterator[DriverController]:
    with DriverController(path) as running:
        yield running


@pytest.fixture
def driver(path: Path) -> Iterator[DriverProcess]:
    with DriverProcess(f"--socket {path}") as process:
        yield process.handshake()


def texts(controller: DriverController) -> list[str]:
    return [message["line"] for message in controller.lines]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("vmm", (*NATIVE, "vmm")),
        ("im", (*NATIVE, "im")),
        ("vmm", (sys.executable, "-c", "from onedock.controller.driver.relay import vmm; vmm()")),
        ("im", (sys.executable, "-c", "from onedock.controller.driver.relay import im; im()")),
    ],
)
def test_it_says_who_it_is(kind: str, command: tuple[str, ...], controller: DriverController) -> None:
    with DriverProcess(f"--socket '{controller.path}'", command=command) as driver:
        driver.handshake()
        controller.wait(lambda c: bool(c.hellos), "hello")
    (hello,) = controller.hellos
    assert hello == {"hello": kind, "session": hello["session"], "pid": driver.process.pid}
    assert re.fullmatch("[0-9a-f]{32}", hello["session"])


def test_it_undoes_what_it_inherits(driver: DriverProcess) -> None:
    assert int(driver.status("SigBlk"), 16) == 0
    assert int(driver.status("SigIgn"), 16) & 1 << (signal.SIGPIPE - 1)
    assert Path(f"/proc/{driver.process.pid}/fd/2").readlink() == Path("/dev/null")


def test_nothing_gets_into_the_read_of_the_handshake(path: Path, controller: DriverController) -> None:
    for number in range(100):
        controller.send_outcome(number, f"REBOOT SUCCESS {number} -")
    with DriverProcess(f"--socket {path}") as driver:
        driver.write(b"INIT\n")
        controller.wait(lambda c: bool(c.hellos), "hello")
        # The driver has read the outcomes once it has acknowledged lines that came after them.
        for count in range(1, 6):
            driver.write(b"REBOOT  1 \n")
            controller.wait(lambda c, count=count: len(c.lines) == count, "line")  # type: ignore[misc]
        assert driver.unread() == len("INIT SUCCESS\n")
        assert driver.read_once(31) == b"INIT SUCCESS\n"
        for number in range(100):
            assert driver.read_line() == b"REBOOT SUCCESS %d -" % number
        controller.wait(lambda c: len(c.delivered) == 100, "delivered")


def test_recorded_traffic_passes_unchanged(path: Path, controller: DriverController) -> None:
    vmm, im = records("vmm"), records("im")
    sent = [to_vmm(record) for record in vmm if record["from"] == "oned"][1:]
    sent += [to_im(record) for record in im if record["from"] == "monitord"][1:]
    answers = [record["head"] for record in vmm if record["from"] == "driver"][1:]
    answers += [to_im(record) for record in im if record["from"] == "driver"][1:]
    with DriverProcess(f"--socket {path}") as driver:
        driver.handshake().write("".join(f"{line}\n" for line in sent).encode())
        controller.wait(lambda c: len(c.lines) == len(sent), "all lines")
        assert texts(controller) == sent
        for number, answer in enumerate(answers):
            controller.send_outcome(number, answer)
        assert [driver.read_line().decode() for _ in answers] == answers
        controller.wait(lambda c: len(c.delivered) == len(answers), "delivered")
    assert wire.parse_vmm_line(texts(controller)[0]).action == "DEPLOY"


def test_bytes_that_are_no_text_pass_unchanged(controller: DriverController, driver: DriverProcess) -> None:
    raw = b"DEPLOY  7 \xff\xc3( \xe2\x82\xac\x00\x7f\r"
    driver.write(raw + b"\n")
    controller.wait(lambda c: bool(c.lines), "line")
    assert texts(controller) == [raw.decode("utf-8", "surrogateescape")]
    controller.send_outcome(1, texts(controller)[0])
    assert driver.read_line() == raw


def test_oned_never_waits_while_the_controller_is_down(path: Path, driver: DriverProcess) -> None:
    lines = [f"DEPLOY  {n} {'A' * (MEGABYTE if n % 50 == 0 else 3000)}" for n in range(1000)]
    for line in lines:
        driver.write(f"{line}\n".encode())
    with DriverController(path) as controller:
        controller.wait(lambda c: len(c.lines) == len(lines), "all lines")
        assert texts(controller) == lines
        assert [message["seq"] for message in controller.lines] == list(range(1, 1001))
        assert len(controller.hellos) == 1


def test_unacknowledged_lines_are_sent_again(path: Path, driver: DriverProcess) -> None:
    with DriverController(path) as controller:
        driver.write(b"REBOOT  1 \n")
        controller.wait(lambda c: len(c.lines) == 1, "first line")
        controller.acknowledging = False
        driver.write(b"REBOOT  2 \nREBOOT  3 \n")
        controller.wait(lambda c: len(c.lines) == 3, "three lines")
        controller.stop()
        driver.write(b"REBOOT  4 \n")
        controller.acknowledging = True
        controller.start()
        controller.wait(lambda c: len(c.lines) == 4, "four lines")
        assert texts(controller) == [f"REBOOT  {n} " for n in (1, 2, 3, 4)]
        assert [message["seq"] for message in controller.repeated] == [2, 3]
        assert len({hello["session"] for hello in controller.hellos}) == 1
        driver.write(b"FINALIZE\n")
        assert driver.process.wait(20) == 0


def test_an_outcome_that_comes_twice_is_written_once(controller: DriverController, driver: DriverProcess) -> None:
    controller.noting_delivered = False
    controller.send_outcome(5, "DEPLOY SUCCESS 1 one-1")
    assert driver.read_line() == b"DEPLOY SUCCESS 1 one-1"
    controller.wait(lambda c: c.delivered == [5], "delivered")
    controller.stop()
    controller.noting_delivered = True
    controller.start()
    controller.wait(lambda c: c.delivered == [5, 5], "delivered again")
    controller.send_outcome(6, "REBOOT SUCCESS 1 -")
    assert driver.read_line() == b"REBOOT SUCCESS 1 -"
    # A journal made anew counts from the beginning: another line with a known number is another outcome.
    controller.send_outcome(5, "SHUTDOWN SUCCESS 1 -")
    assert driver.read_line() == b"SHUTDOWN SUCCESS 1 -"


def test_delivered_means_written_to_the_end(controller: DriverController, driver: DriverProcess) -> None:
    line = "LOG I 1 " + "x" * MEGABYTE
    controller.send_outcome(1, line)
    controller.wait(lambda _: driver.unread() == PIPE_SIZE, "full pipe")
    driver.write(b"REBOOT  1 \n")
    controller.wait(lambda c: len(c.lines) == 1, "line of oned while oned does not read")
    assert controller.delivered == []
    assert driver.read_line().decode() == line
    controller.wait(lambda c: c.delivered == [1], "delivered")


@pytest.mark.parametrize("length", [30, MEGABYTE])
def test_an_outcome_outlives_its_driver(controller: DriverController, path: Path, length: int) -> None:
    controller.noting_delivered = False
    line = "DEPLOY SUCCESS 1 one-1".ljust(length, "x")
    with DriverProcess(f"--socket {path}") as driver:
        driver.handshake()
        controller.send_outcome(1, line)
        controller.wait(lambda _: driver.unread() >= min(length, PIPE_SIZE), "written")
    controller.noting_delivered = True
    with DriverProcess(f"--socket {path}") as driver:
        assert driver.handshake().read_line().decode() == line
        controller.wait(lambda c: not c.outcomes, "delivered")


@pytest.mark.parametrize("head", ["DEPLOY  42 ", "START_MONITOR - 3 "])
def test_of_an_oversized_line_the_head_is_sent(controller: DriverController, driver: DriverProcess, head: str) -> None:
    size = 33 * MEGABYTE
    driver.write(head.encode() + b"A" * size + b"\nREBOOT  1 \n")
    controller.wait(lambda c: len(c.lines) == 2, "two lines")
    assert controller.lines[0] == {"seq": 1, "line": head, "oversized": len(head) + size}
    assert controller.lines[1] == {"seq": 2, "line": "REBOOT  1 "}


@pytest.mark.parametrize("how", ["FINALIZE", "end of input", "SIGTERM"])
def test_at_the_end_lines_are_still_handed_over(path: Path, driver: DriverProcess, how: str) -> None:
    driver.write(b"REBOOT  1 \n" * 100)
    with DriverController(path) as controller:
        if how == "FINALIZE":
            driver.write(b"FINALIZE\n")
        elif how == "end of input":
            driver.close_input()
        else:
            driver.process.terminate()
        assert driver.process.wait(20) == 0
        assert len(controller.lines) == 100


def test_it_ends_in_time_without_a_controller(path: Path) -> None:
    """A second later oned would kill it. A busy machine may stop it for a while: one of three is in time."""
    seconds: list[float] = []
    while not seconds or seconds[-1] >= 1.0:
        assert len(seconds) < 3, seconds
        with DriverProcess(f"--socket {path}") as driver:
            driver.handshake().write(b"REBOOT  1 \nFINALIZE\n")
            begin = time.monotonic()
            assert driver.process.wait(20) == 0
            seconds.append(time.monotonic() - begin)


def test_messages_of_the_controller_that_make_no_sense_are_left_out(
    controller: DriverController, driver: DriverProcess, tmp_path: Path
) -> None:
    controller.send_outcome(1, "\ud800")
    controller.send_outcome(2, "REBOOT SUCCESS 1 -")
    assert driver.read_line() == b"REBOOT SUCCESS 1 -"
    assert controller.delivered == [2] or not controller.delivered


def test_what_happens_can_be_logged(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "driver log"
    with DriverProcess(f"--socket {path} --log '{log}'") as driver:
        driver.handshake().write(b"REBOOT  1 \n")
        with DriverController(path) as controller:
            controller.wait(lambda c: len(c.lines) == 1, "line")
    assert f"controller at {path}: cannot connect: [Errno 2] No such file" in log.read_text()


def test_an_unknown_argument_is_refused() -> None:
    with DriverProcess("-t 15") as driver:
        assert driver.process.wait(20) == 2


@given(st.lists(st.binary(max_size=9).map(lambda data: data.replace(b"\n", b""))), st.integers(1, 7))
def test_lines_are_cut_the_same_however_they_arrive(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    cutter = Lines(limit=6)
    cut = [line for start in range(0, len(data), size) for line in cutter.feed(data[start : start + size])]
    assert [line.oversized or len(line.text) for line in cut] == [len(line) for line in lines]
    assert [line for line in cut if not line.oversized] == [Line(line) for line in lines if len(line) <= 6]
