"""Specs to the engine's JSON and its answers to the model, with values that nobody means well."""

import json
import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.nodeside.engine_answers import inspected_container, inspected_image, listed_containers
from onedock.nodeside.engine_json import (
    FORBIDDEN_DIRECTORIES,
    UNLIMITED_BYTES,
    create_body,
    pinned_image,
    update_body,
    working_directory,
)
from onedock.reconcilers.errors import TerminalError, TransientError
from onedock.reconcilers.model import LABEL_INSTANCE, LABEL_SPEC, LABEL_VM, ContainerSpec, Phase, VmId

VM = VmId(23201)
DIGEST = "sha256:" + "ab" * 32
SPEC = ContainerSpec(image=f"127.0.0.1:5000/onedock/image-7@{DIGEST}", hostname="web-1")
ANYTHING = st.text(st.characters(), max_size=40)
"""Lone surrogates and control characters included."""

nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | ANYTHING, lambda part: st.lists(part) | st.dictionaries(ANYTHING, part)
)
limits = st.integers(min_value=0, max_value=1 << 50)
specs = st.builds(
    ContainerSpec,
    image=st.sampled_from([SPEC.image, DIGEST]) | ANYTHING,
    hostname=st.just("web-1") | ANYTHING,
    command=st.none() | st.lists(ANYTHING, max_size=3).map(tuple),
    entrypoint=st.none() | st.lists(ANYTHING, max_size=3).map(tuple),
    environment=st.lists(st.tuples(ANYTHING, ANYTHING), max_size=3).map(tuple),
    working_dir=st.none() | st.just("/srv") | ANYTHING,
    user=st.none() | st.just("www-data:33") | ANYTHING,
    dns=st.lists(st.just("192.0.2.1") | ANYTHING, max_size=2).map(tuple),
    search=st.lists(st.just("example.com") | ANYTHING, max_size=2).map(tuple),
    hosts=st.lists(st.tuples(st.just("db") | ANYTHING, st.just("2001:db8::1") | ANYTHING), max_size=2).map(tuple),
    cpu_shares=limits,
    cpu_quota_us=limits,
    memory_bytes=limits,
    pids=limits,
)


def body_of(spec: ContainerSpec, instance: str = "i") -> dict[str, Any]:
    return create_body(VM, instance=instance, spec=spec, runtime="onedock")


def body_or_refusal(spec: ContainerSpec) -> dict[str, Any] | str:
    try:
        return body_of(spec)
    except TerminalError as error:
        return str(error)


class TestCreate:
    def test_a_plain_spec(self) -> None:
        assert body_of(SPEC) == {
            "Image": SPEC.image,
            "Hostname": "web-1",
            "Entrypoint": None,
            "Cmd": None,
            "Env": [],
            "WorkingDir": "",
            "User": "",
            "Labels": {LABEL_VM: "23201", LABEL_INSTANCE: "i", LABEL_SPEC: SPEC.digest()},
            "OpenStdin": True,
            "Tty": False,
            "HostConfig": {
                "NetworkMode": "none",
                "Runtime": "onedock",
                "Privileged": False,
                "RestartPolicy": {"Name": "no"},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "10485760"}},
                "Dns": [],
                "DnsSearch": [],
                "ExtraHosts": [],
                "CpuShares": 1024,
                "CpuPeriod": 100_000,
                "CpuQuota": 0,
                "Memory": 0,
                "MemorySwap": 0,
                "PidsLimit": 0,
            },
        }

    @given(specs)
    def test_whatever_is_asked_privileges_stay_and_text_is_text(self, spec: ContainerSpec) -> None:
        body = body_or_refusal(spec)
        if isinstance(body, str):
            assert len(body) < 300
            assert "\n" not in body
            return
        host = body["HostConfig"]
        assert set(body) == set(body_of(SPEC))
        assert set(host) == set(body_of(SPEC)["HostConfig"])
        assert host["Privileged"] is False
        assert host["NetworkMode"] == "none"
        assert host["Memory"] == host["MemorySwap"] == spec.memory_bytes
        json.dumps(body).encode()
        assert "\0" not in repr(body).replace("\\x00", "\0")
        for line in (*host["Dns"], *host["DnsSearch"], *host["ExtraHosts"], body["Hostname"], body["User"]):
            assert not set(line) & set(string.whitespace)
        assert not body["WorkingDir"].startswith("/proc")

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"hostname": ""}, "host name"),
            ({"hostname": "a" * 65}, "host name"),
            ({"hostname": "-a"}, "host name"),
            ({"hostname": "a\n127.0.0.1 registry"}, "host name"),
            ({"environment": (("", "x"),)}, "environment variable"),
            ({"environment": (("A=B", "x"),)}, "environment variable"),
            ({"environment": (("A", "x\0y"),)}, "variable A contains a zero byte"),
            ({"environment": (("A", "\udcff"),)}, "variable A is not valid UTF-8"),
            ({"command": ("a\0b",)}, "a word of the command"),
            ({"entrypoint": ("\udcff",)}, "a word of the entrypoint"),
            ({"user": "root:root:root"}, "user"),
            ({"user": "a b"}, "user"),
            ({"user": ""}, "user"),
            ({"dns": ("ns.example.com",)}, "name server"),
            ({"dns": ("fe80::1%eth0",)}, "zone"),
            ({"dns": ("192.0.2.1\noptions x",)}, "name server"),
            ({"search": ("a b",)}, "search domain"),
            ({"search": ("a\n",)}, "search domain"),
            ({"hosts": (("a b", "192.0.2.1"),)}, "host name"),
            ({"hosts": (("a", "host-gateway"),)}, "address of a host"),
            ({"image": "alpine:3.20"}, "not pinned"),
        ],
    )
    def test_a_refusal_names_what_it_is_about(self, changes: dict[str, Any], named: str) -> None:
        with pytest.raises(TerminalError, match=named):
            body_of(replace(SPEC, **changes))

    def test_an_empty_entrypoint_is_none_at_all(self) -> None:
        assert body_of(replace(SPEC, entrypoint=()))["Entrypoint"] == [""]


class TestImageReference:
    @pytest.mark.parametrize(
        "reference",
        [DIGEST, f"alpine@{DIGEST}", f"registry.example.com:5000/a/b-c_d/e.f@{DIGEST}", f"[::1]:5000/a@{DIGEST}"],
    )
    def test_pinned(self, reference: str) -> None:
        assert pinned_image(reference) == reference

    @pytest.mark.parametrize(
        "reference",
        [
            "",
            "alpine",
            f"../containers/x@{DIGEST}",
            f"..@{DIGEST}",
            f"a/../b@{DIGEST}",
            f"a@{DIGEST}?force=1",
            f"a@{DIGEST}\n",
            f"a b@{DIGEST}",
            f"a:1@{DIGEST}/../..",
            f"@{DIGEST}",
            f"a@{DIGEST[:-1]}",
            f"-a@{DIGEST}",
        ],
    )
    def test_anything_else(self, reference: str) -> None:
        with pytest.raises(TerminalError, match="not pinned"):
            pinned_image(reference)


class TestWorkingDirectory:
    @pytest.mark.parametrize("path", ["/", "/srv", "/process", "/devel/x", "/a/../srv", "/x y"])
    def test_allowed(self, path: str) -> None:
        assert working_directory(path) == path

    @pytest.mark.parametrize("top", FORBIDDEN_DIRECTORIES)
    @pytest.mark.parametrize("form", ["{}", "{}/", "/{}/x", "//{}/self/fd/8", "/a/..{}/x", "/.{}", "/../..{}/x"])
    def test_ways_out_of_the_container(self, top: str, form: str) -> None:
        with pytest.raises(TerminalError, match="not allowed"):
            working_directory(form.format(top))

    @pytest.mark.parametrize("path", ["", "srv", "proc/self", "."])
    def test_relative(self, path: str) -> None:
        with pytest.raises(TerminalError, match="not absolute"):
            working_directory(path)


def inspected(**state: Any) -> dict[str, Any]:
    body = body_of(SPEC)
    return {
        "Id": "0f" * 32,
        "Name": "/one-23201",
        "Image": DIGEST,
        "State": {"Status": "running", "Pid": 7, "ExitCode": 0, "OOMKilled": False, "Error": "", **state},
        "Config": {"Image": body["Image"], "Labels": body["Labels"]},
        "HostConfig": body["HostConfig"],
    }


class TestAnswers:
    @given(limits, limits, limits, limits)
    def test_limits_come_back_as_they_were_set(self, shares: int, quota: int, memory: int, pids: int) -> None:
        spec = replace(SPEC, cpu_shares=shares, cpu_quota_us=quota, memory_bytes=memory, pids=pids)
        for body in (body_of(spec)["HostConfig"], update_body(spec)):
            answer = inspected() | {"HostConfig": body}
            assert inspected_container(answer).limits == spec.limits()

    def test_a_container(self) -> None:
        state = {
            "Status": "exited",
            "Pid": 0,
            "ExitCode": 137,
            "OOMKilled": True,
            "StartedAt": "2026",
            "FinishedAt": "2027",
        }
        found = inspected_container(inspected(**state))
        assert (found.name, found.vm, found.instance, found.spec_digest) == ("one-23201", VM, "i", SPEC.digest())
        assert (found.phase, found.exit_code, found.oom_killed) == (Phase.EXITED, 137, True)
        assert (found.started_at, found.finished_at, found.image) == ("2026", "2027", SPEC.image)

    @pytest.mark.parametrize("label", ["", "x", "-1", "1.5", " 7", "7\n", "٣", "9" * 11])
    def test_a_label_that_is_no_number_is_not_ours(self, label: str) -> None:
        answer = inspected()
        answer["Config"] = {"Image": "x", "Labels": {LABEL_VM: label}}
        assert inspected_container(answer).vm is None

    def test_no_labels_no_pids_limit(self) -> None:
        answer = inspected()
        answer["Config"] = {"Image": "x", "Labels": None}
        answer["HostConfig"] = {"PidsLimit": None, "Memory": UNLIMITED_BYTES, "CpuQuota": -1}
        found = inspected_container(answer)
        assert found.vm is None
        assert found.limits == (0, 0, 0, 0)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | ANYTHING, lambda x: st.lists(x) | st.dictionaries(ANYTHING, x)
        )
    )
    def test_nonsense_is_transient(self, answer: Any) -> None:
        for parse in (inspected_container, inspected_image):
            with pytest.raises(TransientError, match="not understood"):
                parse(answer)

    def test_an_unknown_state_is_transient(self) -> None:
        with pytest.raises(TransientError, match=r"State\.Status"):
            inspected_container(inspected(Status="dreaming"))

    def test_a_list_has_only_ours(self) -> None:
        labels = {LABEL_VM: "23201", LABEL_INSTANCE: "i", LABEL_SPEC: "s"}
        entry = {"Id": "0f" * 32, "Names": ["/one-23201"], "Image": "x", "State": "running", "Labels": labels}
        foreign = entry | {"Labels": {LABEL_VM: "mine"}}
        (found,) = listed_containers([entry, foreign])
        assert (found.name, found.vm, found.instance, found.phase) == ("one-23201", VM, "i", Phase.RUNNING)

    def test_one_senseless_entry_makes_the_list_worthless(self) -> None:
        entry = {"Id": "0f" * 32, "Names": ["/one-1"], "Image": "x", "State": "running", "Labels": {}}
        with pytest.raises(TransientError, match="not understood"):
            listed_containers([entry, {"Id": "../x"}])
