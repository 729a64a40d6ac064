"""Hostile XML is refused with a clear text; harmless XML is not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.recorded import records

from onedock.controller.xml import XmlError, parse_children, parse_xml, required_text
from onedock.reconcilers.errors import TerminalError

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "' + "&a;" * 1000 + '"><!ENTITY c "' + "&b;" * 1000 + '">]><a>&c;</a>'


@pytest.mark.parametrize("prolog", ["", " \n", '<?xml version="1.0" encoding="utf-8"?>\n'])
def test_a_document_is_parsed(prolog: str) -> None:
    root = parse_xml(f"{prolog}<VM><ID>7</ID><NAME><![CDATA[ä <x>]]></NAME></VM>")
    assert (root.findtext("ID"), root.findtext("NAME")) == ("7", "ä <x>")


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        f'<?xml version="1.0"?>{LAUGHS}',
        f"<!-- <x> -->{LAUGHS}",
        f"<?pi <x> ?>{LAUGHS}",
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    ],
)
def test_document_types_are_refused(text: str) -> None:
    with pytest.raises(XmlError, match="DOCTYPE"):
        parse_xml(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&x;</a>",
        "<a>\0</a>",
        "<a>\udcff</a>",
        "<a><!DOCTYPE a></a>",
    ],
)
def test_broken_documents_are_refused(text: str) -> None:
    with pytest.raises(XmlError):
        parse_xml(text)


def test_a_doctype_in_a_users_text_is_harmless() -> None:
    assert parse_xml("<A><![CDATA[<!DOCTYPE html><!ENTITY x 'y'>]]></A>").text == "<!DOCTYPE html><!ENTITY x 'y'>"


def test_size_is_limited() -> None:
    with pytest.raises(XmlError, match="too large: 12 characters"):
        parse_xml("<A>12345</A>", limit=11)


def test_deep_nesting_ends_well() -> None:
    assert len(parse_xml("<a>" * 100_000 + "</a>" * 100_000)) == 1


def test_children_of_a_pool_come_one_by_one() -> None:
    text = "<POOL>" + "".join(f"<VM><ID>{n}</ID><VM><ID>x</ID></VM></VM>" for n in range(1000)) + "</POOL>"
    assert [child.findtext("ID") for child in parse_children(text)] == [str(n) for n in range(1000)]


@pytest.mark.parametrize("text", ["<A><B/>", "<A><B></A>", "<!DOCTYPE a><A/>", "<A>\udc80</A>", "", "<A/><B/>"])
def test_a_bad_pool_is_refused(text: str) -> None:
    with pytest.raises(XmlError):
        list(parse_children(text))


def test_required_text_names_what_is_missing() -> None:
    root = parse_xml("<VM><ID> 7 </ID><NAME/></VM>")
    assert required_text(root, "ID") == "7"
    for path in ("NAME", "UID"):
        with pytest.raises(XmlError, match=f"VM/{path}"):
            required_text(root, path)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(TerminalError):
        parse_xml(text)


def test_recorded_documents_are_parsed() -> None:
    documents = [record["xml"] for name in ("vmm", "scripts") for record in records(name) if "xml" in record]
    assert len(documents) > 70
    for document in documents:
        assert parse_xml(document).tag in {"VMM_DRIVER_ACTION_DATA", "DS_DRIVER_ACTION_DATA"}
