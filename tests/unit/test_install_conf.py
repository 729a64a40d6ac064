"""The editor of oned.conf and monitord.conf: what it does not change keeps every byte, and what it adds goes again."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.install.oned_conf import Driver, Result, add_to_monitord, add_to_oned, in_use, remove
from onedock.install.steps import decode
from onedock.install.template_syntax import Attribute, ConfError, Edit, apply, parse

DRIVER = Driver(vmm_arguments="--log /var/log/one/onedock-vmm.log", im_arguments="--log /var/log/one/onedock-im.log")

REAL = os.environ.get("ONEDOCK_TEST_ONE_ETC", "")

PACKAGED = """#*******
# Daemon configuration
#*******
LOG = [
  SYSTEM      = "file",   # "syslog" is possible
  DEBUG_LEVEL = 3
]
PORT=2633
VNC_PORTS = [
    START    = 5900
    # RESERVED = "6800, 6801"
]
VM_ADMIN_OPERATIONS  = "migrate, delete,
    recover # no comment"
VM_MAD = [
    NAME       = "kvm",
    EXECUTABLE = "one_vmm_exec",
    ARGUMENTS  = "-t 15 -r 0 kvm -p",
    TYPE       = "kvm"
]
#TM_MAD = [ EXECUTABLE = "one_tm", ARGUMENTS = "-t 1 -d old" ]
TM_MAD = [
    EXECUTABLE = "one_tm",
    ARGUMENTS = "-t 15 -d dummy,shared,ssh"
]
DATASTORE_MAD = [
    EXECUTABLE = "one_datastore",
    ARGUMENTS  = "-t 15 -d dummy,fs -s shared,ssh,local"
]
CONTEXT_SAFE_DIRS = ""
EMPTY =
NOTHING = [ ]
"""
MINIMAL = 'TM_MAD=[ARGUMENTS="-d ssh"]DATASTORE_MAD=[ARGUMENTS="-s ssh -d fs"]'
REORDERED = """DATASTORE_MAD = [ ARGUMENTS = "--system-ds-types=ssh,local  --ds-types fs -t 3",
  EXECUTABLE = "one_datastore" ]

DS_MAD_CONF = [ NAME = "fs", REQUIRED_ATTRS = "" ]
tm_mad = [ arguments = "-dssh,local -t 15", executable = "one_tm" ] # by hand
"""
TABS = PACKAGED.replace("    ", "\t")
CRLF = PACKAGED.replace("\n", "\r\n")
COMMENT_LAST = PACKAGED + "# the end"
LATIN = decode(PACKAGED.encode() + b"# gr\xfc\xdfe\n")
SHAPES = {
    "packaged": PACKAGED,
    "minimal": MINIMAL,
    "reordered": REORDERED,
    "tabs": TABS,
    "crlf": CRLF,
    "crlf without end": CRLF.removesuffix("\r\n"),
    "no newline": PACKAGED.removesuffix("\n"),
    "comment at the end": COMMENT_LAST,
    "latin-1": LATIN,
}


def attributes(text: str) -> list[tuple[object, ...]]:
    """All attributes without where they are."""
    return [
        (one.name, one.value and one.value.text, one.pairs and [(name, value.text) for name, value in one.pairs])
        for one in parse(text)
    ]


def one(text: str, name: str) -> Attribute:
    [found] = [one for one in parse(text) if one.name == name]
    return found


def installs_and_goes(text: str) -> Result:
    result = add_to_oned(text, DRIVER)
    assert add_to_oned(result.text, DRIVER).text == result.text
    assert remove(result.text) == text
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_install_again_uninstall(shape: str) -> None:
    text = SHAPES[shape]
    added = installs_and_goes(text).text
    assert one(added, "TM_MAD").get("ARGUMENTS").split(",")[-1].split()[0] == "onedock"  # type: ignore[union-attr]
    names = [(found.name, found.get("NAME")) for found in parse(added) if found.pairs and found.get("NAME")]
    for wanted in ("VM_MAD", "TM_MAD_CONF", "DS_MAD_CONF"):
        assert names.count((wanted, "onedock")) == 1
    assert remove(text) == text


@pytest.mark.skipif(not REAL, reason="needs a directory with files of OpenNebula: ONEDOCK_TEST_ONE_ETC is not set")
def test_real_files() -> None:
    for path in Path(REAL).glob("oned.conf*"):
        installs_and_goes(remove(decode(path.read_bytes())))
    for path in Path(REAL).glob("monitord.conf*"):
        monitord = remove(decode(path.read_bytes()))
        added = add_to_monitord(monitord, DRIVER).text
        assert add_to_monitord(added, DRIVER).text == added
        assert remove(added) == monitord


def test_only_the_lists_change_and_the_block_comes() -> None:
    added = add_to_oned(PACKAGED, DRIVER).text
    before, after = PACKAGED.splitlines(), added.splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
    assert [new for _, new in changed] == [
        '    ARGUMENTS = "-t 15 -d dummy,shared,ssh,onedock"',
        '    ARGUMENTS  = "-t 15 -d dummy,fs,onedock -s shared,ssh,local,onedock"',
    ]
    assert after[len(before)].startswith("# BEGIN ONEDock")
    assert after[-1] == "# END ONEDock"
    assert one(REORDERED, "TM_MAD").get("ARGUMENTS") == "-dssh,local -t 15"
    options = one(add_to_oned(REORDERED, DRIVER).text, "DATASTORE_MAD").get("ARGUMENTS")
    assert options == "--system-ds-types=ssh,local,onedock  --ds-types fs,onedock -t 3"


def test_crlf_stays_crlf() -> None:
    assert "\n" not in add_to_oned(CRLF, DRIVER).text.replace("\r\n", "")


def test_monitord() -> None:
    for text in ("", "NETWORK=[PORT=4124]", 'IM_MAD = [ NAME = "kvm", EXECUTABLE = "one_im_ssh" ]\n'):
        added = add_to_monitord(text, DRIVER).text
        assert add_to_monitord(added, DRIVER).text == added
        assert attributes(added)[-1][0] == "IM_MAD"
        assert remove(added) == text


def test_a_new_release_renews_its_block_where_it_is() -> None:
    old = add_to_oned(PACKAGED, Driver(vmm_arguments="--old")).text + 'MINE = "later"\n'
    new = add_to_oned(old, DRIVER).text
    assert new.endswith('# END ONEDock\nMINE = "later"\n')
    assert "--old" not in new
    assert remove(new) == PACKAGED + 'MINE = "later"\n'


@pytest.mark.parametrize("text", [MINIMAL, CRLF.removesuffix("\r\n")], ids=["lf", "crlf"])
def test_lines_that_came_after_the_block_stay_lines(text: str) -> None:
    later = add_to_oned(text, DRIVER).text + "LATER=1\n"
    assert add_to_oned(later, DRIVER).text == later
    assert attributes(remove(later)) == [*attributes(text), ("LATER", "1", None)]


def test_what_the_admin_had_added_stays() -> None:
    by_hand = PACKAGED.replace("dummy,shared,ssh", "dummy,onedock,ssh") + (
        'VM_MAD=[NAME="onedock",EXECUTABLE="/usr/lib/one/mads/onedock-vmm",TYPE="xml"]\n'
        'TM_MAD_CONF=[NAME="onedock",SHARED="NO"]\n'
    )
    result = installs_and_goes(by_hand)
    assert result.notes == (
        "line 33: VM_MAD onedock is there already and stays as it is",
        "line 34: TM_MAD_CONF onedock is there already and stays as it is",
    )
    assert "-d dummy,onedock,ssh" in result.text
    assert "# in lists: DATASTORE_MAD -d, DATASTORE_MAD -s\n" in result.text
    assert in_use(remove(result.text), "onedock") == "VM_MAD onedock (line 33)"
    assert in_use(PACKAGED, "onedock") is None


def test_all_by_hand_is_left_alone() -> None:
    by_hand = PACKAGED.replace("ssh", "ssh,onedock").replace("dummy,fs", "onedock,fs") + (
        'VM_MAD=[NAME="onedock",EXECUTABLE="onedock-vmm"]TM_MAD_CONF=[NAME="onedock"]DS_MAD_CONF=[NAME="onedock"]'
    )
    assert add_to_oned(by_hand, DRIVER).text == by_hand


def test_edits_around_the_additions_survive_uninstall() -> None:
    added = add_to_oned(PACKAGED, DRIVER).text
    edited = added.replace("shared,ssh,onedock", "shared,onedock,ceph").replace("PORT=2633", "PORT=2644")
    assert remove(edited) == PACKAGED.replace("-d dummy,shared,ssh", "-d dummy,shared,ceph").replace("2633", "2644")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PACKAGED + 'TM_MAD = [ ARGUMENTS = "-d x" ]\n', "line 33: TM_MAD is there twice"),
        (PACKAGED.replace("-d dummy,shared,ssh", ""), "line 22: TM_MAD: ARGUMENTS has -d 0 times"),
        (PACKAGED.replace("-s shared,ssh,local", "-s"), "-s is not followed by a list"),
        (PACKAGED.replace("-d dummy,fs -s", "-d -s"), "-d is not followed by a list"),
        (PACKAGED.replace("dummy,fs", "dummy,,fs"), "-d is not followed by a list"),
        (PACKAGED.replace("-d dummy,fs", "-d dummy -d fs"), "ARGUMENTS has -d 2 times"),
        (PACKAGED.replace('"-t 15 -d dummy,shared,ssh"', "-t"), "has no ARGUMENTS in quotes"),
        (PACKAGED.replace("TM_MAD = [", "TM_MAD = 7 #", 2), "expected a NAME|no = after|must follow"),
        (PACKAGED + 'VM_MAD=[NAME="onedock",EXECUTABLE="one_vmm_exec"]\n', "has EXECUTABLE 'one_vmm_exec', not"),
        (PACKAGED + 'VM_MAD=[NAME="ONEDock",EXECUTABLE="x"]\n', "remove that stanza first, or choose another"),
        (PACKAGED + 'DS_MAD_CONF=[NAME="onedock"]\nDS_MAD_CONF=[NAME="onedock"]\n', "line 34: a second DS_MAD_CONF"),
        (PACKAGED + 'VM_MAD=[NAME="a",NAME="b"]\n', "line 33: VM_MAD has NAME twice"),
        (PACKAGED + 'DS_MAD_CONF="fs"\n', "line 33: DS_MAD_CONF is not of the form"),
        (PACKAGED + 'X = "open\n', "line 33: the quote that opens here is never closed"),
        (PACKAGED + 'X = [ A = "1"\n', "line 33: the bracket that opens here is never closed"),
        (PACKAGED + "X = [ A = 1, ]\n", "line 33: expected a NAME"),
        (PACKAGED + "X = [ A = [ B = 1 ] ]\n", "line 33: A has no value"),
        (PACKAGED + "X = # later\n", "line 33: X has no value"),
        (PACKAGED + "X = a b\n", "line 33: b has no = after it"),
        (PACKAGED + "X ]\n", "line 33: X has no = after it"),
        (PACKAGED + 'X = "a"b\n', "line 33: after the closing quote comes 'b'"),
        (PACKAGED + 'X = "]]>"\n', "line 33: ]]> ends oned's reading"),
        (PACKAGED + "# END ONEDock\n", "are not one pair"),
        (PACKAGED + "# BEGIN ONEDock: x\n", "are not one pair"),
        ("", "there is no TM_MAD"),
    ],
)
def test_refusals_name_line_and_remedy(text: str, reason: str) -> None:
    with pytest.raises(ConfError, match=reason):
        add_to_oned(text, DRIVER)


def test_a_backslash_before_a_quote_escapes_it() -> None:
    text = 'A = "say \\"hi\\", # x" B="c:\\"'
    assert [found[1] for found in attributes(text)] == ['say \\"hi\\", # x', "c:\\"]


_space = st.sampled_from(["", " ", "\t", "\n", "\r\n", '  # a = [ " comment\n', "\n\n", "#]\n"])
_blank = st.sampled_from(["", " ", "\t  "])
_names = st.text("abcXYZ_09", min_size=1, max_size=5).map(lambda text: f"X{text}")
_quoted = st.text('ab ,=[]#\n\té\\"', max_size=8).filter(lambda text: "]]>" not in text and not text.endswith("\\"))
_values = st.one_of(
    _quoted.map(lambda text: '"' + text.replace('"', '\\"') + '"'),
    st.text("abc-/:.'é", min_size=1, max_size=6),
)


@st.composite
def _attribute(draw: st.DrawFn, name: st.SearchStrategy[str] = _names) -> str:
    equals = f"{draw(_space)}={draw(_blank)}"
    return f"{draw(name)}{equals}{draw(_values)}"


@st.composite
def _vector(draw: st.DrawFn, name: str | None = None, pairs: tuple[str, ...] = ()) -> str:
    others = draw(st.lists(_attribute(), max_size=3))
    inner = draw(st.permutations([*pairs, *others]))
    glue = [draw(_space) + "," + draw(_space) for _ in inner[1:]]
    text = "".join(part + separator for part, separator in zip(inner, [*glue, ""], strict=False))
    return f"{name or draw(_names)}{draw(_space)}={draw(_blank)}[{draw(_space)}{text}{draw(_space)}]"


@st.composite
def _files(draw: st.DrawFn) -> str:
    lists = [",".join(draw(st.lists(st.sampled_from(["ssh", "fs", "ceph"]), min_size=1))) for _ in range(3)]
    known = [
        draw(_vector("TM_MAD", (f'Arguments="-t 15 -d {lists[0]}"', 'EXECUTABLE = "one_tm"'))),
        draw(_vector("datastore_mad", (f'ARGUMENTS\t=  "-d {lists[1]} -s  {lists[2]} -t 1"',))),
        draw(_vector("VM_MAD", ('NAME="kvm"', "EXECUTABLE=one_vmm_exec"))),
    ]
    others = draw(st.lists(st.one_of(_attribute(), _vector()), max_size=4))
    parts = draw(st.permutations([*known, *others]))
    ends = st.sampled_from(["\n", "\r\n", "\n\n", "\n#\n", " \t# x\n", "   "])
    text = draw(_space) + "".join(part + draw(ends) for part in parts)
    return text + draw(st.sampled_from(["", "# no end", "EMPTY=\n"]))


@given(_files())
def test_any_file(text: str) -> None:
    before = attributes(text)
    added = installs_and_goes(text).text
    after = attributes(added)
    assert [item[0] for item in after[-3:]] == ["VM_MAD", "TM_MAD_CONF", "DS_MAD_CONF"]
    lists = {"TM_MAD", "DATASTORE_MAD"}
    assert [item for item in after[:-3] if item[0] not in lists] == [item for item in before if item[0] not in lists]


@given(_files())
def test_spans_are_those_of_the_values(text: str) -> None:
    for found in parse(text):
        values = [found.value] if found.value else [value for _, value in found.pairs or ()]
        for value in values:
            assert text[value.start : value.end] == value.text
            if value.quoted:
                assert text[value.start - 1] == text[value.end] == '"'
    assert apply(text, []) == text


@given(st.text('TM_MAD=[]"#,\\ \n\r-dsx', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfError):
        installs_and_goes(text)


def test_edits_of_one_text() -> None:
    assert apply("abcdef", [Edit(1, 2, "BB"), Edit(6, 6, "!"), Edit(4, 5, "")]) == "aBBcdf!"
