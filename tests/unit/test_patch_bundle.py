"""What onedock-runtime does to an OCI bundle, and when it refuses."""

import copy
import json
import operator
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from onedock.nodeside.runtime.patch_bundle import (
    RefusalError,
    ask_for_names,
    bound_namespace,
    option,
    patch,
    refuse,
    rewrite,
    without_frame_sockets,
)

NAMESPACE = "/run/netns/one-22002"
CONTAINER = "0123456789abcdef" * 4
CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "user": {"uid": 0}},
    "hooks": {
        "prestart": [
            {"path": "/proc/11/exe", "args": ["libnetwork-setkey", "-exec-root=/run/docker", CONTAINER, "abc"]},
            {"path": "/usr/bin/gpu-hook", "args": ["gpu-hook", "prestart"]},
        ],
        "poststop": [{"path": "/usr/bin/clean"}],
    },
    "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "pid"}], "resources": {}},
}


def networks(config: dict[str, Any]) -> list[dict[str, str]]:
    return [one for one in config["linux"]["namespaces"] if one["type"] == "network"]


def test_the_namespace_is_named_and_only_the_engines_own_hook_goes() -> None:
    before = copy.deepcopy(CONFIG)
    patched = patch(CONFIG, NAMESPACE)

    assert before == CONFIG, "patch is pure"
    assert networks(patched) == [{"type": "network", "path": NAMESPACE}]
    assert patched["hooks"]["prestart"] == [{"path": "/usr/bin/gpu-hook", "args": ["gpu-hook", "prestart"]}]
    assert patched["hooks"]["poststop"] == CONFIG["hooks"]["poststop"]
    assert {**patched, "hooks": 0, "linux": 0} == {**CONFIG, "hooks": 0, "linux": 0}
    assert patch(patched, NAMESPACE) == patched


@pytest.mark.parametrize("namespaces", [[], [{"type": "network", "path": "/proc/1/ns/net"}]])
def test_a_container_of_the_hosts_network_gets_the_vms_instead(namespaces: list[dict[str, str]]) -> None:
    patched = patch({"linux": {"namespaces": namespaces}}, NAMESPACE)
    assert networks(patched) == [{"type": "network", "path": NAMESPACE}]


ALLOW = "SCMP_ACT_ALLOW"
SOL_PACKET = 263
COMPARISONS = {"NE": operator.ne, "EQ": operator.eq, "LT": operator.lt, "GT": operator.gt}


def sockets(*conditions: tuple[str, int]) -> list[dict[str, Any]]:
    """A rule for each condition on the family."""
    return [
        {"names": ["socket"], "action": ALLOW, "args": [{"index": 0, "value": value, "op": f"SCMP_CMP_{op}"}]}
        for op, value in conditions
    ]


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ([{"names": ["read", "socket", "socketcall", "io_uring_setup"], "action": ALLOW}], set()),
        ([{"names": ["read", "socketcall"], "action": ALLOW, "args": None}, *sockets(("NE", 40))], set()),
        ([{"names": ["read"], "action": ALLOW}, *sockets(("LT", 38), ("EQ", 39), ("GT", 40))], {socket.AF_ALG}),
        (
            [
                {"names": ["read", "socketcall"], "action": ALLOW},
                *sockets(("LT", 12), *(("EQ", family) for family in range(13, 64) if family not in {38, 40})),
            ],
            {12, socket.AF_ALG},
        ),
    ],
    ids=["engine 20.10", "engine 23", "engine 29.4.2", "engine 29.10"],
)
def test_no_process_has_sockets_that_send_past_the_filters(rules: list[dict[str, Any]], missing: set[int]) -> None:
    seccomp = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    patched = patch({"linux": {"namespaces": [], "seccomp": seccomp}}, NAMESPACE)["linux"]["seccomp"]

    first, *others = patched["syscalls"]
    assert (first["names"], first["action"]) == (["socketcall"], "SCMP_ACT_ERRNO")
    assert {name for rule in others for name in rule["names"]} == {"read", "socket"}
    assert [rule["names"] for rule in others].count(["read"]) == 1
    conditions = [rule["args"][0] for rule in others if rule["names"] == ["socket"]]
    assert {family for family in range(64) if not allowed(conditions, family)} == {socket.AF_VSOCK, 44} | missing
    for high in (1 << 32, 3 << 40):  # the kernel takes the lower 32 bits
        assert not any(allowed(conditions, family + high) for family in (socket.AF_VSOCK, 44))
    again = patch({"linux": {"namespaces": [], "seccomp": patched}}, NAMESPACE)["linux"]["seccomp"]
    assert again == patched


def allowed(conditions: list[dict[str, Any]], argument: int) -> bool:
    return any(
        (argument & one["value"]) == one["valueTwo"]
        if (operation := one["op"].removeprefix("SCMP_CMP_")) == "MASKED_EQ"
        else COMPARISONS[operation](argument, one["value"])
        for one in conditions
    )


def test_no_raw_frame_says_where_a_checksum_is_put() -> None:
    general = {"names": ["read", "setsockopt", "socket"], "action": ALLOW}
    rules = without_frame_sockets({"syscalls": [general]})["syscalls"]
    assert without_frame_sockets({"syscalls": rules})["syscalls"] == rules
    conditions = [rule["args"][0] for rule in rules if rule["names"] == ["setsockopt"]]
    by_level, by_option = ([one for one in conditions if one["index"] == index] for index in (1, 2))

    def passes(level: int, option: int) -> bool:
        return allowed(by_level, level) or allowed(by_option, option)

    assert {(level, one) for level in range(512) for one in range(25) if not passes(level, one)} == {
        (SOL_PACKET, 15),
        (SOL_PACKET, 24),
    }
    assert not any(passes(SOL_PACKET + high, 15 + high) for high in (1 << 32, 3 << 40))


def test_what_a_rule_says_of_other_arguments_stays() -> None:
    raw_only = {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}
    [_, *rules] = without_frame_sockets({"syscalls": [{"names": ["socket"], "action": ALLOW, "args": [raw_only]}]})[
        "syscalls"
    ]
    assert all(rule["args"][1:] == [raw_only] for rule in rules)
    assert not allowed([rule["args"][0] for rule in rules], 44)


@pytest.mark.parametrize(
    "seccomp",
    [
        {"defaultAction": "SCMP_ACT_ALLOW"},
        {"syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO"}]},
        {"syscalls": [{"names": ["read"], "action": ALLOW}]},
    ],
)
def test_a_profile_that_lets_no_socket_pass_or_all_stays(seccomp: dict[str, Any]) -> None:
    assert patch({"linux": {"namespaces": [], "seccomp": seccomp}}, NAMESPACE)["linux"]["seccomp"] == seccomp


def test_a_stage_without_hooks_left_goes() -> None:
    config = {"linux": {"namespaces": []}, "hooks": {"prestart": [{"path": "x", "args": ["libnetwork-setkey"]}]}}
    assert patch(config, NAMESPACE)["hooks"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"linux": 3}',
        '{"linux": {"seccomp": {"syscalls": [7]}}}',
        '{"linux": {"namespaces": [1]}}',
        '{"linux":{},"hooks":7}',
    ],
)
def test_a_bundle_of_another_form_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(RefusalError):
        rewrite(str(file), NAMESPACE)
    assert file.read_text() == text


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="cannot be used"):
        rewrite(str(tmp_path / "config.json"), NAMESPACE)


def test_the_bundle_is_replaced_with_the_same_rights(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    file.chmod(0o640)
    rewrite(str(file), NAMESPACE)
    assert networks(json.loads(file.read_text())) == [{"type": "network", "path": NAMESPACE}]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("container", ["", "short", "../" + "a" * 61, CONTAINER.upper(), CONTAINER])
def test_an_unbound_container_is_refused_by_name_of_the_agent(container: str, tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match=r"no network namespace is bound to this container; .*onedock-agent"):
        bound_namespace(str(tmp_path), container)


def test_a_namespace_that_is_gone_or_none_or_the_nodes_own_is_refused(tmp_path: Path) -> None:
    for content in ("/run/netns/one-22002-gone", str(tmp_path), "/proc/self/ns/net"):
        (tmp_path / CONTAINER).write_text(content)
        with pytest.raises(RefusalError, match="network namespace"):
            bound_namespace(str(tmp_path), CONTAINER)


def test_a_refusal_is_told_in_the_log_as_runc_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.json"
    with pytest.raises(SystemExit) as ended:
        refuse(["--log", str(log), "--log-format", "json", "create", "--bundle", "/b", CONTAINER], "why; what")
    assert ended.value.code == "onedock-runtime: why; what"
    line = json.loads(log.read_text())
    assert (line["level"], line["msg"]) == ("error", "onedock-runtime: why; what")

    with pytest.raises(SystemExit):
        refuse([f"--log={tmp_path}/plain", "create", CONTAINER], "why; what")
    assert (tmp_path / "plain").read_text() == "onedock-runtime: why; what\n"


def test_options_are_found_in_both_forms() -> None:
    assert option(["create", "--bundle", "/b", "id"], "--bundle", "-b") == "/b"
    assert option(["create", "-b=/b", "id"], "--bundle", "-b") == "/b"
    assert option(["create", "id"], "--bundle") is None


def test_who_is_to_be_asked_is_asked_and_who_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    ask_for_names(str(tmp_path), CONTAINER)
    agent = tmp_path / "agent"
    (tmp_path / f"{CONTAINER}.names").symlink_to(agent)
    ask_for_names(str(tmp_path), CONTAINER)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(agent))
        listener.listen()
        listener.settimeout(5)

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(1024))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        asked: list[bytes] = []
        answering = threading.Thread(target=answer)
        answering.start()
        ask_for_names(str(tmp_path), CONTAINER)
        answering.join()
    assert asked[0].startswith(f"POST /containers/{CONTAINER}/names HTTP/1.1\r\n".encode())
    assert asked[0].endswith(b"\r\n\r\n")
