"""The editor of daemon.json: one member changes, however the rest was laid out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.install.daemon_json import EMPTY, Runtime, add, is_before, remove
from onedock.install.json_text import JsonTextError, load, remove_member, set_member

RUNTIME = Runtime("onedock", Path("/usr/lib/onedock/onedock-runtime"))
ELSEWHERE = Runtime("onedock", Path("/opt/onedock-runtime"), Path("/srv/runtime dir"))

BY_HAND = """{
    "log-driver": "json-file",   "log-opts": {"max-size": "10m"},
    "insecure-registries": [ "10.0.0.0/8",
                             "registry:5000" ],
    "runtimes": { "crun": {"path": "/usr/bin/crun"} },
    "mtu": 1.50e3
}
"""


def test_a_registration_among_settings_by_hand() -> None:
    added = add(BY_HAND, RUNTIME, live_restore=True)
    assert added == BY_HAND.replace(
        '"/usr/bin/crun"} }',
        '"/usr/bin/crun"}, "onedock": {"path": "/usr/lib/onedock/onedock-runtime"} }',
    ).replace("1.50e3\n", '1.50e3,\n    "live-restore": true\n')
    assert add(added, RUNTIME, live_restore=False) == added
    assert is_before(BY_HAND, remove(added, "onedock"))


def test_without_live_restore_it_goes_to_the_byte() -> None:
    assert remove(add(BY_HAND, RUNTIME, live_restore=False), "onedock") == BY_HAND


def test_an_empty_file_gets_the_usual_layout() -> None:
    added = add(EMPTY, ELSEWHERE, live_restore=True)
    assert added == (
        '{\n  "runtimes": {\n    "onedock": {\n      "path": "/opt/onedock-runtime",\n      "runtimeArgs": [\n'
        '        "--onedock-runtime-dir=/srv/runtime dir"\n      ]\n    }\n  },\n  "live-restore": true\n}\n'
    )
    assert is_before(EMPTY, remove(added, "onedock"))


def test_tabs_and_line_ends_are_kept() -> None:
    text = '{\r\n\t"debug": true\r\n}\r\n'
    added = add(text, RUNTIME, live_restore=False)
    assert '\r\n\t"runtimes": {\r\n\t\t"onedock": {\r\n\t\t\t"path": "/usr' in added
    assert "\n" not in added.replace("\r\n", "")
    assert remove(added, "onedock") == text


def test_another_place_replaces_the_first() -> None:
    moved = add(add(BY_HAND, ELSEWHERE, live_restore=False), RUNTIME, live_restore=False)
    assert load(moved)["runtimes"]["onedock"] == {"path": "/usr/lib/onedock/onedock-runtime"}
    assert remove(moved, "onedock") == BY_HAND


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON: Expecting value: line 1 column 1"),
        ('{\n "a": 1,\n}', r"not valid JSON: .*line [23] column"),  # since Python 3.13 the comma's
        ("[]", "not a JSON object"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"runtimes": []}', '"runtimes" is no object'),
        ('{"runtimes": {"onedock": {"path": "/usr/bin/crun"}}}', "is there already, with another program"),
        ('{"runtimes": {"onedock": 3}}', "is there already, with another program"),
        ("{} // comment", "not valid JSON"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(JsonTextError, match=reason):
        add(text, RUNTIME, live_restore=True)


def test_a_foreign_runtime_of_the_name_is_not_removed() -> None:
    text = '{"runtimes": {"onedock": {"path": "/usr/bin/crun"}}}'
    assert remove(text, "onedock") == text


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(max_size=3), _json, max_size=4)
_layout = st.sampled_from([{}, {"indent": 4}, {"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(_objects, _layout, st.text(max_size=3), _json, st.sampled_from(["", "\n", "\r\n "]))
def test_set_and_remove_any_member(
    value: dict[str, Any], layout: dict[str, Any], name: str, new: Any, end: str
) -> None:
    text = json.dumps(value, **layout) + end
    changed = set_member(text, (name,), new)
    assert json.loads(changed) == value | {name: new}
    assert set_member(changed, (name,), new) == changed
    without = remove_member(changed, (name,))
    assert json.loads(without) == {key: item for key, item in value.items() if key != name}
    if value and name not in value:
        assert without == text


@given(_objects, _layout, st.lists(st.text(max_size=2), min_size=2, max_size=3), _json)
def test_set_any_path(value: dict[str, Any], layout: dict[str, Any], path: list[str], new: Any) -> None:
    changed = json.loads(set_member(json.dumps(value, **layout), tuple(path), new))
    for name in path:
        changed = changed[name]
    assert changed == new
