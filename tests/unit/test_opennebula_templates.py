"""Template text of the embedded OpenNebula."""

import pytest

from onedock.lab.opennebula.templates import Template, TemplateError, parse, to_xml


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("", {}),
        ("# nothing\n\n", {}),
        ('NAME="a b"\ncpu = 1.0', {"NAME": ["a b"], "CPU": ["1.0"]}),
        ("PATH=docker://rastasheep/ubuntu-sshd\n", {"PATH": ["docker://rastasheep/ubuntu-sshd"]}),
        ('A="x # no comment" # comment', {"A": ["x # no comment"]}),
        ('RUN="/bin/sh -c \\"sleep 1d\\""', {"RUN": ['/bin/sh -c "sleep 1d"']}),
        ('A="one\ntwo"', {"A": ["one\ntwo"]}),
        ('D=[ IMAGE_ID="0" ]\nD=[TYPE=fs,SIZE="8"]', {"D": [{"IMAGE_ID": "0"}, {"TYPE": "fs", "SIZE": "8"}]}),
        ('C=[\n  NETWORK="YES"\n]\n', {"C": [{"NETWORK": "YES"}]}),
        ('V=[K="a]b, \\"c\\""]', {"V": [{"K": 'a]b, "c"'}]}),
        ("SYNC_STATE=yes MISSING_STATE=POWEROFF", {"SYNC_STATE": ["yes"], "MISSING_STATE": ["POWEROFF"]}),
        ("<TEMPLATE><A>1</A><N><K>v</K></N></TEMPLATE>", {"A": ["1"], "N": [{"K": "v"}]}),
    ],
)
def test_text_is_read(text: str, template: Template) -> None:
    assert parse(text) == template


@pytest.mark.parametrize("text", ["NAME", "= 1", "A=[K]", 'A="open', "A=", "A=[K=1", "<TEMPLATE><A></TEMPLATE>"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError, match="syntax error"):
        parse(text)


def test_attributes_are_printed_sorted_and_in_cdata() -> None:
    xml = to_xml({"B": ["2"], "A": [{"Z": "<", "K": "a]]>b"}, "1"]})
    assert xml == (
        "<A><K><![CDATA[a]]]]><![CDATA[>b]]></K><Z><![CDATA[<]]></Z></A><A><![CDATA[1]]></A><B><![CDATA[2]]></B>"
    )
