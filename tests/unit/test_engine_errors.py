"""The engine's words for failures, and what they mean for a retry. The texts are recorded from Engine 20.10 to 28.5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.nodeside.engine_errors import by_status, create_failure, one_line, pull_failure, start_failure
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError

OCI = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
IMAGE = "127.0.0.1:5000/onedock/image-7@sha256:0"


@pytest.mark.parametrize(
    ("status", "text", "kind", "message"),
    [
        (
            400,
            OCI + 'exec: "foo": executable file not found in $PATH: unknown',
            TerminalError,
            'the command "foo" is not in the image: executable file not found in $PATH',
        ),
        (
            400,
            OCI + 'exec: "/no/foo": stat /no/foo: no such file or directory: unknown',
            TerminalError,
            'the command "/no/foo" is not in the image: no such file or directory',
        ),
        (
            400,
            OCI + 'exec: "/bin": permission denied: unknown',
            TerminalError,
            'the command "/bin" cannot be executed: permission denied',
        ),
        (
            400,
            "failed to create task for container: " + OCI + 'exec: "/bin": is a directory: unknown: permission denied',
            TerminalError,
            'the command "/bin" cannot be executed: is a directory: permission denied',
        ),
        (
            400,
            "failed to create task for container: "
            + OCI
            + 'error during container init: exec: "/no/x": stat /no/x: no such file or directory',
            TerminalError,
            'the command "/no/x" is not in the image: no such file or directory',
        ),
        (
            500,
            "unable to find user nobody: no matching entries in passwd file",
            TerminalError,
            'the user "nobody" is not in the image: no matching entries in passwd file',
        ),
        (
            400,
            'error while looking up the specified runtime path: exec: "/x/onedock-runtime": stat: no such file',
            TerminalError,
            'the OCI runtime of the node does not work: exec: "/x/onedock-runtime": stat: no such file; '
            "install onedock-runtime again",
        ),
        (
            400,
            "failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error "
            "(open /run/log.json: no such file): /x/onedock did not terminate successfully: exit status 3: unknown",
            TerminalError,
            "the OCI runtime of the node does not work: /x/onedock did not terminate successfully: exit status 3; "
            "install onedock-runtime again",
        ),
        (404, "No such container: 0f", NotFoundError, "the container cannot be started: No such container: 0f"),
        (
            409,
            "cannot start a paused container, try unpause instead",
            TransientError,
            "the container cannot be started: cannot start a paused container, try unpause instead",
        ),
        (
            500,
            OCI + "error during container init: open /proc/x: device\nbusy: unknown",
            TransientError,
            "the container cannot be started: open /proc/x: device busy",
        ),
    ],
)
def test_starts(status: int, text: str, kind: type[OnedockError], message: str) -> None:
    failure = start_failure(status, text)
    assert type(failure) is kind
    assert str(failure) == message


@pytest.mark.parametrize(
    ("text", "kind", "begins"),
    [
        ("manifest unknown: manifest unknown", TerminalError, "the registry does not have the image"),
        ("name unknown: repository name not known to registry", TerminalError, "the registry does not have"),
        ('Head "http://127.0.0.1/": no basic auth credentials', TerminalError, "the registry refuses the cred"),
        ("pull access denied for x, repository does not exist", TerminalError, "the registry refuses access"),
        ("http: server gave HTTP response to HTTPS client", TerminalError, "the registry speaks plain HTTP"),
        ("x509: certificate signed by unknown authority", TerminalError, "the registry's certificate"),
        ("toomanyrequests: slow down", TransientError, "the registry limits"),
        ("write /x: no space left on device", TransientError, "the node's disk is full"),
        ("no matching manifest for linux/arm64/v8 in the manifest list", TerminalError, "the image is not made"),
        ('Get "http://127.0.0.1:9/v2/": dial tcp: connect: connection refused', TransientError, "the image cannot"),
        ("net/http: request canceled (Client.Timeout exceeded)", TransientError, "the image cannot be pulled"),
        ("unexpected EOF", TransientError, "the image cannot be pulled"),
    ],
)
def test_pulls(text: str, kind: type[OnedockError], begins: str) -> None:
    failure = pull_failure(IMAGE, 500, text)
    assert type(failure) is kind
    assert str(failure).startswith(begins)
    assert IMAGE in str(failure)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, TerminalError),
        (403, TerminalError),
        (404, NotFoundError),
        (408, TransientError),
        (409, TransientError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
def test_by_status(status: int, kind: type[OnedockError]) -> None:
    assert type(by_status(status, "why")) is kind


def test_an_image_that_vanished_before_the_create_is_pulled_again() -> None:
    assert type(create_failure(404, "No such image: x")) is TransientError
    assert type(create_failure(400, "No command specified")) is TerminalError


def test_a_runtime_that_is_missing_is_named_by_a_start_and_by_a_create() -> None:
    text = 'error while looking up the specified runtime path: exec: "/x/onedock-runtime": stat: no such file'
    for failure in (start_failure(400, text), create_failure(500, text)):
        assert type(failure) is TerminalError
        assert str(failure).startswith('the OCI runtime of the node does not work: exec: "/x/onedock-runtime": stat')


@given(st.text(max_size=3000), st.integers(400, 599))
def test_always_one_line_of_bounded_length(text: str, status: int) -> None:
    for message in (one_line(text), str(start_failure(status, text)), str(pull_failure(IMAGE, status, text))):
        assert message
        assert len(message.splitlines()) == 1
        assert len(message) < 1500
