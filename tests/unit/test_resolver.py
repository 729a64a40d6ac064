"""resolv.conf of a container: what is written, what is left alone, and that nothing else is ever touched."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.specs import nic

from onedock.nodeside.agent.resolver.content import compose, engines_own, is_given, names_in
from onedock.nodeside.agent.resolver.files import HASH, NAME, ChangedInsideError, read_text, write_names
from onedock.reconcilers.model import ContainerId, Network, VmId
from onedock.reconcilers.resolver import Names, is_domain, is_server, merge

CONTAINER = ContainerId("ab" * 32)
ENGINES = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.example\noptions ndots:2\n"
GIVEN = Names(("10.0.0.1", "10.0.0.2"), ("a.example",))
OTHERS = Names(("10.0.0.9", "fd00::9"), ("b.example", "c.example"))

servers = st.lists(st.ip_addresses().map(str).filter(is_server), max_size=16, unique=True).map(tuple)
domains = st.lists(st.from_regex(r"\A[a-z][a-z0-9.-]{0,20}\Z"), max_size=8, unique=True).map(tuple)
names = st.builds(Names, servers, domains)
texts = st.text(st.characters(max_codepoint=255), max_size=200)


def noted(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode('latin-1')).hexdigest()}"


class TestNames:
    def test_nics_in_the_order_of_their_ids_then_leases_then_the_rest(self) -> None:
        first = replace(nic(index=0), dns=("10.0.0.1", "10.0.0.2"), search=("a.example",))
        second = replace(nic(index=1), dns=("10.0.0.3", "10.0.0.1"), search=("b.example", "a.example"))
        merged = merge(Network(VmId(7), (second, first), ("9.9.9.9",)), [Names(("10.0.0.4",), ("c.example",))])
        assert merged.servers == ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "9.9.9.9")
        assert merged.search == ("a.example", "b.example", "c.example")

    @pytest.mark.parametrize("text", ["", "a b", "a\nnameserver 1.1.1.1", "#", "-a", "é.example", "a" * 300])
    def test_what_is_no_domain(self, text: str) -> None:
        assert not is_domain(text)

    @pytest.mark.parametrize("text", ["", "ns.example", "fe80::1%eth0", "fe80::1%\n", "1.2.3.4\n", "1.2.3"])
    def test_what_is_no_server(self, text: str) -> None:
        assert not is_server(text)


class TestContent:
    def test_names_are_replaced_and_all_else_stays(self) -> None:
        lines = [line for line in compose(ENGINES, GIVEN, OTHERS).splitlines() if line[0] != "#"]
        assert lines == [
            "search b.example c.example", "nameserver 10.0.0.9", "nameserver fd00::9", "options ndots:2",
        ]  # fmt: skip

    @given(names, names)
    def test_the_engine_alone_is_right_only_if_it_was_given_the_same(self, given_names: Names, wanted: Names) -> None:
        engines = "".join(f"nameserver {one}\n" for one in given_names.servers)
        if given_names.search:
            engines += f"search {' '.join(given_names.search)}\n"
        if is_given(given_names, wanted):
            assert compose(engines, given_names, wanted) == engines
        elif all((given_names.servers, given_names.search, wanted.servers, wanted.search)):
            assert compose(engines, given_names, wanted) != engines

    def test_what_the_engine_took_from_the_node_stays_where_nothing_is_wanted(self) -> None:
        assert compose(ENGINES, Names(), Names()) == ENGINES
        assert names_in(compose(ENGINES, GIVEN, Names())) == Names()
        only_domains = names_in(compose(ENGINES, Names(), Names((), ("b.example",))))
        assert only_domains == Names(GIVEN.servers, ("b.example",))

    @given(texts, names, names)
    def test_a_resolver_finds_what_is_wanted(self, original: str, asked: Names, wanted: Names) -> None:
        found = names_in(compose(original, asked, wanted))
        assert found.servers == wanted.servers or not wanted.servers
        assert found.search == wanted.search or not wanted.search

    @given(texts, names, names, names)
    def test_what_was_made_of_the_engines_text_has_it_within(
        self, original: str, asked: Names, wanted: Names, later: Names
    ) -> None:
        text = compose(original, asked, wanted)
        assert engines_own(text, noted(original)) == original
        assert compose(original, asked, later) == compose(engines_own(text, "") or original, asked, later)

    @given(texts, texts)
    def test_what_somebody_has_changed_is_not_ours(self, original: str, more: str) -> None:
        text = compose(original, Names(), OTHERS)
        for changed in (text + more, more + text, text.replace("10.0.0.9", "10.0.0.8")):
            same = changed.rstrip("\n") == text.rstrip("\n")
            assert same or engines_own(changed, noted(original)) is None


def test_empty_lines_of_a_write_that_was_cut_short_are_nobodys_change() -> None:
    text = compose(ENGINES, GIVEN, OTHERS)
    for present in (text, ENGINES, ENGINES.rstrip("\n")):
        engine = ENGINES if present == text else present
        assert engines_own(present + "\n" * 40, noted(engine)) == engine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of an engine's containers, one of which has been started."""
    place = tmp_path / "containers" / CONTAINER
    place.mkdir(parents=True)
    (place / NAME).write_text(ENGINES)
    (place / HASH).write_text(noted(ENGINES))
    (place / "hostconfig.json").write_text(json.dumps({"Dns": GIVEN.servers, "DnsSearch": GIVEN.search}))
    return place.parent


class TestFiles:
    def test_the_same_file_is_written_and_only_when_it_differs(self, directory: Path) -> None:
        file = directory / CONTAINER / NAME
        before = file.stat().st_ino
        assert not write_names(directory, CONTAINER, GIVEN)
        for wanted in (OTHERS, Names(("10.0.0.3",)), OTHERS):
            assert write_names(directory, CONTAINER, wanted)
            assert not write_names(directory, CONTAINER, wanted)
            assert names_in(read_text(directory, CONTAINER)) == wanted
        assert write_names(directory, CONTAINER, GIVEN)
        assert file.read_text() == ENGINES
        assert file.stat().st_ino == before

    def test_a_changed_file_is_left_alone(self, directory: Path) -> None:
        file = directory / CONTAINER / NAME
        for text in (ENGINES + "# mine\n", "", compose(ENGINES, GIVEN, OTHERS) + "options rotate\n"):
            file.write_text(text)
            with pytest.raises(ChangedInsideError):
                write_names(directory, CONTAINER, Names(("10.0.0.3",)))
            assert file.read_text() == text

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"Dns": 7}'])
    def test_an_engine_that_says_something_else(self, directory: Path, text: str) -> None:
        (directory / CONTAINER / "hostconfig.json").write_text(text)
        with pytest.raises(OSError, match="not understood"):
            write_names(directory, CONTAINER, OTHERS)
        assert (directory / CONTAINER / NAME).read_text() == ENGINES

    def test_no_container_or_one_that_was_never_started(self, directory: Path) -> None:
        (directory / CONTAINER / HASH).write_text("")
        with pytest.raises(FileNotFoundError):
            write_names(directory, CONTAINER, OTHERS)
        with pytest.raises(FileNotFoundError):
            write_names(directory, ContainerId("cd" * 32), OTHERS)


def _link(file: Path, precious: Path) -> None:
    file.unlink()
    file.symlink_to(precious)


def _second_name(file: Path, precious: Path) -> None:
    file.unlink()
    os.link(precious, file)


def _pipe(file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _directory(file: Path, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _link_to_directory(file: Path, precious: Path) -> None:
    place = precious.parent / "elsewhere"
    file.parent.rename(place)
    file.parent.symlink_to(place)


def _endless(file: Path, _: Path) -> None:
    os.truncate(file, 1 << 40)


@pytest.mark.parametrize("odd", [_link, _second_name, _pipe, _directory, _link_to_directory, _endless])
def test_nothing_but_a_plain_file_is_written(
    directory: Path, tmp_path: Path, odd: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text(ENGINES)
    odd(directory / CONTAINER / NAME, precious)
    with pytest.raises(OSError):
        write_names(directory, CONTAINER, OTHERS)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.stat().st_size < 1 << 20:
            assert "10.0.0.9" not in file.read_text()
