"""Lines and template text, against recorded traffic and by property."""

import base64
import contextlib
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.recorded import records, to_im, to_vmm

from onedock.controller import wire
from onedock.controller.xml import XmlError

ACTIONS = st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True)
NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,10}", fullmatch=True)
VM_IDS = st.integers(-1, 2**31)
ENCODABLE = st.text(st.characters(codec="utf-8"))

# How oned reads an answer (protocol reference 14).
ANSWER = re.compile(r"(\S+)\s+(\S+)\s+(-?\d+)\s?(.*)")
# How oned's lexer reads a quoted value and what its parser makes of it (protocol reference 5.8).
QUOTED = re.compile(r'"((?:[^"\\]|\\"|\\)*)"')


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def encode_im(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


def test_recorded_lines_of_oned_are_parsed() -> None:
    lines = [record for record in records("vmm") if record["from"] == "oned" and record["head"] != "INIT"]
    assert len(lines) > 50
    for record in lines:
        action, vm = record["head"].split()
        assert wire.parse_vmm_line(to_vmm(record)) == wire.VmmLine(action, int(vm), record.get("xml", ""))


def test_recorded_answers_of_the_vmm_driver_are_formatted() -> None:
    answers = [record["head"] for record in records("vmm") if record["from"] == "driver"][1:]
    assert len(answers) > 60
    for answer in answers:
        action, result, vm, text = answer.split(" ", 3)
        if action == "LOG":
            assert wire.vmm_log(result, int(vm), text) == answer
        else:
            assert wire.vmm_answer(action, result == "SUCCESS", int(vm), text) == answer
            assert wire.vmm_answer(action, result == "SUCCESS", int(vm), "" if text == "-" else text) == answer


def test_recorded_lines_of_monitord_are_parsed() -> None:
    lines = [record for record in records("im") if record["from"] == "monitord" and record["head"] != "INIT"]
    assert len(lines) == 10
    for record in lines:
        action, _, host, epoch = record["head"].split()
        expected = wire.ImLine(action, int(host), int(epoch), record["payload"])
        assert wire.parse_im_line(to_im(record)) == expected
        names = {0: "node0", 1: "node1", 2: "node2"}
        assert wire.parse_start_monitor(expected.payload) == wire.StartMonitor(
            int(host), names[int(host)], "127.0.0.1", 4124
        )


def test_recorded_messages_of_the_im_driver_are_formatted() -> None:
    messages = [record for record in records("im") if record["from"] == "driver"][1:]
    assert len(messages) > 50
    for record in messages:
        kind, result, host, epoch = record["head"].split()
        line = wire.im_message(kind, result == "SUCCESS", int(host), int(epoch), record.get("payload", ""))
        assert line == to_im(record)


def recorded_payloads(kind: str) -> set[str]:
    return {record["payload"] for record in records("im") if record["head"].startswith(kind)}


def test_recorded_template_texts_are_formatted() -> None:
    usage = {"CPU": "3.5", "MEMORY": "20480", "NETRX": "100", "NETTX": "200", "DISKRDBYTES": "5"}
    usage |= {"DISKWRBYTES": "6", "DISKRDIOPS": "1", "DISKWRIOPS": "2"}
    assert {wire.monitor_vm([(0, usage)])} == recorded_payloads("MONITOR_VM")
    states = {wire.state_vm([(vm, state)]) for vm in (0, 4) for state in ("RUNNING", "POWEROFF")}
    states |= {wire.state_vm([(4, state)]) for state in ("SUSPENDED", "FAILURE")}
    states.add(wire.state_vm([], sync=True, missing="UNKNOWN"))
    states.add(wire.state_vm([(4, "RUNNING"), (9999, "RUNNING")], sync=True, missing="UNKNOWN"))
    assert recorded_payloads("STATE_VM") <= states
    host: dict[str, wire.Value] = {"HYPERVISOR": "onedock", "HOSTNAME": "node2", "TOTALCPU": 200}
    host["TOTALMEMORY"] = 24000000
    assert wire.template_text(host) in recorded_payloads("SYSTEM_HOST")


@given(ACTIONS, VM_IDS, ENCODABLE)
def test_vmm_lines_round_trip(action: str, vm: int, xml: str) -> None:
    assert wire.parse_vmm_line(f"{action}  {vm} {encode(xml)}") == wire.VmmLine(action, vm, xml)


@given(ACTIONS, VM_IDS, st.integers(0, 2**40), ENCODABLE)
def test_im_lines_round_trip(action: str, host: int, epoch: int, xml: str) -> None:
    line = f"{action} - {host} {epoch} {encode_im(xml)}"
    assert wire.parse_im_line(line) == wire.ImLine(action, host, epoch, xml)


@pytest.mark.parametrize("text", ["DEPLOY  42 ", "DEPLOY  42", "DEPLOY 42", " DEPLOY\t42  "])
def test_a_payload_may_be_missing(text: str) -> None:
    assert wire.parse_vmm_line(text) == wire.VmmLine("DEPLOY", 42, "")


@pytest.mark.parametrize(
    "text",
    ["", "DEPLOY", "DEPLOY  x", "DEPLOY - 42 QQ==", "deploy  1 ", "DEPLOY  1_0 ", "DEPLOY  ٣ ", "\udcff  1 "],
)
def test_lines_without_a_numeric_id_are_refused(text: str) -> None:
    with pytest.raises(wire.WireError, match="line of oned not understood"):
        wire.parse_vmm_line(text)


@pytest.mark.parametrize(
    ("payload", "cause"),
    [("QQ", "base64"), ("Q Q==", "base64"), ("QQ==\udcff", "base64"), ("/w==", "not UTF-8 at byte 0")],
)
def test_a_bad_payload_can_still_be_answered(payload: str, cause: str) -> None:
    with pytest.raises(wire.PayloadError, match=cause) as caught:
        wire.parse_vmm_line(f"DEPLOY  42 {payload}")
    assert (caught.value.action, caught.value.object_id) == ("DEPLOY", 42)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"xx", "not zlib"),
        (zlib.compress(b"x" * 99)[:-1], "cut off"),
        (zlib.compress(b"x") + b"x", "tail"),
        (zlib.compress(bytes(wire.PAYLOAD_LIMIT + 1), 1), "more than 67108864 bytes"),
        (zlib.compress(b"\xff"), "not UTF-8"),
    ],
)
def test_a_bad_payload_of_monitord_can_still_be_answered(data: bytes, cause: str) -> None:
    with pytest.raises(wire.PayloadError, match=cause) as caught:
        wire.parse_im_line(f"START_MONITOR - 3 0 {base64.b64encode(data).decode()}")
    assert (caught.value.action, caught.value.object_id) == ("START_MONITOR", 3)


@pytest.mark.parametrize("text", ["", "INIT", "START_MONITOR 3", "START_MONITOR - x 0 "])
def test_bad_lines_of_monitord_are_refused(text: str) -> None:
    with pytest.raises(wire.WireError, match="line of monitord not understood"):
        wire.parse_im_line(text)


@given(st.text())
def test_any_line_is_parsed_or_refused(text: str) -> None:
    for parse in (wire.parse_vmm_line, wire.parse_im_line):
        with contextlib.suppress(wire.WireError):
            parse(text)


@given(ACTIONS, st.booleans(), VM_IDS, st.text())
def test_an_answer_is_one_line_that_oned_can_show(action: str, ok: bool, vm: int, info: str) -> None:
    line = wire.vmm_answer(action, ok, vm, info)
    assert len(line.splitlines()) == 1
    assert line.encode()
    match = ANSWER.fullmatch(line)
    assert match
    assert match.groups()[:3] == (action, "SUCCESS" if ok else "FAILURE", str(vm))
    assert match[4]
    assert ok or not match[4].startswith("-")


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ("", "failed: no reason given"),
        ("- -", "failed: no reason given"),
        ("--privileged is refused", "failed: --privileged is refused"),
        ("image gone\nrun: oneimage show 7\r\n", "image gone run: oneimage show 7"),
    ],
)
def test_the_text_of_a_failure_is_always_shown(info: str, text: str) -> None:
    assert wire.vmm_answer("DEPLOY", False, 42, info) == f"DEPLOY FAILURE 42 {text}"


@given(st.text(), st.integers(-1, 99))
def test_a_log_is_one_line(text: str, vm: int) -> None:
    assert len(wire.vmm_log("E", vm, text).splitlines()) == 1


@given(ENCODABLE)
def test_messages_carry_their_text(text: str) -> None:
    line = wire.im_message("STATE_VM", True, 3, 0, text)
    assert line == f"STATE_VM SUCCESS 3 0{' ' + encode_im(text) if text else ''}"


@given(NAMES, st.text())
def test_oned_reads_a_template_value_as_it_was_meant(name: str, value: str) -> None:
    text = wire.template_attribute(name, value)
    assert len(text.splitlines()) == 1
    assert "]]>" not in text
    before, _, quoted = text.partition("=")
    match = QUOTED.fullmatch(quoted)
    assert before == name
    assert match
    read = match[1].replace('\\"', '"')
    printable = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]+", " ", value)
    assert read.rstrip() == printable.replace("]]>", "]] >").rstrip()


@given(st.dictionaries(NAMES, st.text(), max_size=5))
def test_a_vector_keeps_its_values_apart(values: dict[str, str]) -> None:
    text = wire.template_vector("VM", values)
    assert text.startswith("VM=[")
    assert text.endswith("]")
    assert [match[0] for match in re.finditer(r'(?:^|,)([A-Z0-9_]+)=(?="(?:[^"\\]|\\"|\\)*"(?:,|$))', text[4:-1])] == [
        f"{',' if index else ''}{name}=" for index, name in enumerate(values)
    ]


def test_numbers_are_bare_in_attributes_and_quoted_in_vectors() -> None:
    values: dict[str, wire.Value] = {"A": 1, "B": 2.5, "C": "x"}
    assert wire.template_text(values) == 'A=1\nB=2.50\nC="x"\n'
    assert wire.template_vector("V", values) == 'V=[A="1",B="2.50",C="x"]'


@pytest.mark.parametrize(
    ("xml", "cause"),
    [
        ("<A><HOST><NAME>n</NAME></HOST></A>", "A/HOST/ID"),
        ("<A><HOST><ID>1</ID></HOST></A>", "A/HOST/NAME"),
        ("<A><HOST><ID>x</ID><NAME>n</NAME></HOST></A>", "no number"),
        ("", "not XML"),
    ],
)
def test_start_monitor_says_what_is_wrong_with_it(xml: str, cause: str) -> None:
    with pytest.raises((wire.WireError, XmlError), match=cause):
        wire.parse_start_monitor(xml)


def test_start_monitor_with_an_address() -> None:
    network = "<NETWORK><MONITOR_ADDRESS>10.0.0.9</MONITOR_ADDRESS><PORT>4999</PORT></NETWORK>"
    configuration = f"<MONITOR_CONFIGURATION>{network}</MONITOR_CONFIGURATION>"
    xml = f"<A><HOST><ID>1</ID><NAME>n</NAME></HOST>{configuration}</A>"
    assert wire.parse_start_monitor(xml) == wire.StartMonitor(1, "n", "10.0.0.9", 4999)
