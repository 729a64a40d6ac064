"""oned's documents: all recorded ones are read as recorded, hostile ones are refused with a reason."""

from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.recorded import records
from tests.support.vm_xml import element, parsed, request_xml, vm_xml

from onedock.controller.documents import parse_id, parse_vm, parse_vmm_request
from onedock.controller.verbs import KNOWN, refusal
from onedock.controller.xml import parse_xml
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import VmId

REQUESTS = [record for record in records("vmm") if record["from"] == "oned" and "xml" in record]


@pytest.mark.parametrize("record", REQUESTS, ids=[f"{n}-{r['head']}" for n, r in enumerate(REQUESTS)])
def test_every_recorded_request_is_read_as_it_was_sent(record: dict[str, Any]) -> None:
    action, vm = record["head"].split()
    request = parse_vmm_request(record["xml"], VmId(int(vm)))
    root = fromstring(record["xml"])
    said = root.find("VM")
    assert said is not None
    assert action in KNOWN
    assert request.host == root.findtext("HOST")
    assert request.tm_command == (root.findtext("TM_COMMAND") or "").strip()
    assert request.vm.id == int(vm)
    assert request.vm.name == said.findtext("NAME")
    assert str(request.vm.lcm_state) == said.findtext("LCM_STATE")
    assert str(request.vm.history.seq) == said.findtext("HISTORY_RECORDS/HISTORY/SEQ")
    assert str(request.vm.history.rstime) == said.findtext("HISTORY_RECORDS/HISTORY/RSTIME")
    assert request.vm.history.node == said.findtext("HISTORY_RECORDS/HISTORY/HOSTNAME")
    assert len(request.vm.disks) == len(said.findall("TEMPLATE/DISK"))
    assert [nic["IP"] for nic in request.vm.nics] == [nic.findtext("IP") for nic in said.findall("TEMPLATE/NIC")]
    assert len(request.vm.aliases) == len(said.findall("TEMPLATE/NIC_ALIAS"))
    assert request.vm.attributes["MEMORY"] == said.findtext("TEMPLATE/MEMORY")


def test_every_recorded_document_of_the_api_is_read() -> None:
    seen = 0
    for record in records("xmlrpc"):
        if record["method"] in {"one.vm.info", "one.vmpool.info", "one.vmpool.infoextended"} and record["response"][0]:
            root = parse_xml(record["response"][1])
            for said in [root] if root.tag == "VM" else root.findall("VM"):
                vm = parse_vm(said)
                assert str(vm.id) == said.findtext("ID")
                assert str(vm.state) == said.findtext("STATE")
                if (last := said.find("HISTORY_RECORDS/HISTORY[last()]")) is not None:
                    assert str(vm.history.seq) == last.findtext("SEQ")
                    assert vm.history.vm_mad == "onedock"
                seen += 1
    assert seen > 30


def test_the_hard_word_of_a_poweroff_is_in_the_short_pool() -> None:
    pools = [r for r in records("xmlrpc") if r["method"] == "one.vmpool.info"]
    actions = {parse_vm(vm).history.action for vm in parse_xml(pools[0]["response"][1]).findall("VM")}
    assert 28 in actions


def test_updates_of_groups_and_networks_name_them() -> None:
    by_action = {record["head"].split()[0]: record for record in REQUESTS}
    assert parse_vmm_request(by_action["UPDATESG"]["xml"], VmId(0)).security_group == "100"
    assert parse_vmm_request(by_action["UPDATENIC"]["xml"], VmId(0)).virtual_network == "0"


def test_variables_are_kept_in_order_of_precedence() -> None:
    document = vm_xml(
        extra="<DOCKER_ENV>A=1 B=1</DOCKER_ENV><DOCKER_ENV><C>x y</C></DOCKER_ENV>", user={"DOCKER_ENV": "B=2"}
    )
    vm = parsed(document)
    assert vm.environment == ("A=1 B=1", "B=2")
    assert vm.environment_pairs == (("C", "x y"),)


def test_the_last_history_record_counts() -> None:
    record = "<HISTORY><SEQ>{}</SEQ><HOSTNAME>{}</HOSTNAME></HISTORY>"
    records_xml = f"<HISTORY_RECORDS>{record.format(0, 'a')}{record.format(1, 'b')}</HISTORY_RECORDS>"
    vm = parsed(f"<VM><ID>5</ID>{records_xml}</VM>")
    assert (vm.history.seq, vm.history.node) == (1, "b")


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ("", "not XML"),
        ("hello", "not XML"),
        ("<A/>", "is a <A>"),
        ("<VMM_DRIVER_ACTION_DATA/>", "not a VMM_DRIVER_ACTION_DATA with a VM"),
        (f"<{'A' * 5000}/>", "is a <AAAA"),
        (request_xml("<VM><ID>6</ID></VM>"), "contains VM 6"),
        (request_xml("<VM/>"), "contains VM -1"),
        (request_xml("<VM><ID>5; rm -rf /</ID></VM>"), "ID is not a number"),
        (request_xml("<VM><ID>5</ID><LCM_STATE>٣</LCM_STATE></VM>"), "LCM_STATE is not a number"),
        (request_xml("<VM><ID>5</ID><LCM_STATE>1_0</LCM_STATE></VM>"), "LCM_STATE is not a number"),
        (request_xml(f"<VM><ID>5</ID><LCM_STATE>{'9' * 5000}</LCM_STATE></VM>"), "LCM_STATE is not a number"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + request_xml("<VM><ID>5</ID></VM>"), "DOCTYPE"),
        ("<VMM_DRIVER_ACTION_DATA><VM>", "broken"),
        ("<VMM_DRIVER_ACTION_DATA>&a;</VMM_DRIVER_ACTION_DATA>", "broken"),
    ],
)
def test_hostile_documents_are_refused_with_a_short_reason(xml: str, reason: str) -> None:
    with pytest.raises(TerminalError, match=reason) as caught:
        parse_vmm_request(xml, VmId(5))
    assert len(str(caught.value)) < 250


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(TerminalError):
        parse_vmm_request(text, VmId(5))


def test_deep_and_large_documents_do_no_harm() -> None:
    deep = "<a>" * 20_000 + "</a>" * 20_000
    vm = parsed(vm_xml(extra=deep, user={"NOTE": "x" * 1_000_000}))
    assert len(vm.user_attributes["NOTE"]) == 1_000_000


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff")))
def test_values_arrive_as_they_were_sent(value: str) -> None:
    assert parsed(vm_xml(user={"NOTE": value})).user_attributes["NOTE"] == value


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("999999999", 999_999_999), ("", None), ("-1", None), ("²", None), ("1234567890", None),
     ("1 ", None), ("1\n", None), ("٣", None)],
)  # fmt: skip
def test_ids_are_plain_digits(text: str, number: int | None) -> None:
    assert parse_id(text) == number


@pytest.mark.parametrize(
    ("action", "lcm_state", "refused"),
    [
        ("DEPLOY", 2, False),
        ("DEPLOY", 20, False),
        ("DEPLOY", 32, True),
        ("RESTORE", 21, False),
        ("RESTORE", 22, True),
        ("SHUTDOWN", 18, False),
        ("SHUTDOWN", 12, False),
        ("SHUTDOWN", 29, True),
        ("CANCEL", 7, True),
        ("SAVE", 6, False),
        ("SAVE", 5, True),
        ("REBOOT", 3, False),
        ("CLEANUP", 15, False),
        ("UPDATESG", 3, False),
        ("MIGRATE", 4, True),
        ("DEPLOY", 9999, True),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_begun(action: str, lcm_state: int, refused: bool) -> None:
    assert bool(refusal(action, lcm_state)) == refused


def test_elements_made_by_these_tests_are_escaped() -> None:
    assert element("A", {"B": "<&>"}) == "<A><B>&lt;&amp;&gt;</B></A>"
