"""Names of images: what PATH and SOURCE may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onedock.controller.images.source import (
    LocalArchive,
    RegistryImage,
    RemoteArchive,
    Stored,
    image_repository,
    parse_path,
    stored_reference,
)
from onedock.reconcilers.errors import TerminalError

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("docker://alpine", RegistryImage("docker.io", "library/alpine")),
        ("docker://alpine:3.20", RegistryImage("docker.io", "library/alpine", "3.20")),
        ("docker://bitnami/redis:7", RegistryImage("docker.io", "bitnami/redis", "7")),
        ("docker://index.docker.io/alpine", RegistryImage("docker.io", "library/alpine")),
        ("docker://quay.io/a/b/c:x_1", RegistryImage("quay.io", "a/b/c", "x_1")),
        ("docker://127.0.0.1:5000/alpine", RegistryImage("127.0.0.1:5000", "alpine")),
        ("docker://localhost/alpine", RegistryImage("localhost", "alpine")),
        ("docker://[::1]:5000/alpine", RegistryImage("[::1]:5000", "alpine")),
        (f"docker://r.example/a@{DIGEST}", RegistryImage("r.example", "a", "latest", DIGEST)),
        (f"docker://r.example/a:1@{DIGEST}", RegistryImage("r.example", "a", "1", DIGEST)),
        ("/var/lib/one/docker://alpine:3.20", RegistryImage("docker.io", "library/alpine", "3.20")),
        ("//docker://r.example:5/a", RegistryImage("r.example:5", "a")),
        ("/var/tmp/image.tar", LocalArchive("/var/tmp/image.tar")),
        ("/var/tmp/with blank.tar", LocalArchive("/var/tmp/with blank.tar")),
        ("http://h:8080/i.tar?x=1", RemoteArchive("http://h:8080/i.tar?x=1")),
        ("https://h/docker://i.tar", RemoteArchive("https://h/docker://i.tar")),
    ],
)
def test_paths_that_can_be_read(path: str, expected: object) -> None:
    assert parse_path(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "alpine",
        "docker://",
        "docker:///alpine",
        "docker://Alpine",
        "docker://alpine:",
        "docker://alpine:a b",
        "docker://alpine:-x",
        "docker://alpine@",
        "docker://alpine@sha256:short",
        f"docker://alpine@{DIGEST.upper()}",
        "docker://alpine@sha512:" + "0" * 128,
        "docker://../../etc/passwd",
        "docker://r.example/a/../b",
        "docker://r.example//b",
        "docker://r.example:0/a",
        "docker://r.example:99999/a",
        "docker://-x.example/a",
        "docker://r.example/--dest-creds=x",
        "docker://alpine$(reboot)",
        "docker://alpine;reboot",
        "docker://alpine'\"",
        "docker://alpine\nreboot",
        "docker://user:secret@r.example/a",
        "docker://" + "a" * 256,
        "ftp://h/i.tar",
        "relative/docker://alpine",
        "/var/tmp/a\0b",
        "/var/tmp/a\nb",
        "/" + "a" * 5000,
        "http://",
        "http://h:port/x",
        "https://h/a b",
        "http://[::1/x",
    ],
)
def test_paths_that_cannot_be_read_say_so_in_one_line(path: str) -> None:
    with pytest.raises(TerminalError) as caught:
        parse_path(path)
    message = str(caught.value)
    assert message.isprintable()
    assert 20 < len(message) < 300


def test_names_without_registry_come_from_the_default_one() -> None:
    assert parse_path("docker://alpine", "mirror.example:5000") == RegistryImage("mirror.example:5000", "alpine")


def test_what_skopeo_and_the_registry_are_told() -> None:
    by_tag = RegistryImage("r.example", "a/b", "1")
    by_digest = RegistryImage("r.example", "a/b", "1", DIGEST)
    assert (str(by_tag), by_tag.version) == ("r.example/a/b:1", "1")
    assert (str(by_digest), by_digest.version) == (f"r.example/a/b@{DIGEST}", DIGEST)


def test_a_password_in_an_url_is_never_shown() -> None:
    assert str(RemoteArchive("https://me:secret@h:8/x.tar?token=1")) == "https://h:8/x.tar"


def test_a_source_says_what_an_engine_can_pull() -> None:
    stored = Stored("r.example:5000", image_repository("onedock", 7), DIGEST)
    assert stored.source == f"docker://r.example:5000/onedock/image-7@{DIGEST}"
    assert stored.pullable == f"r.example:5000/onedock/image-7@{DIGEST}"
    assert stored_reference(stored.source) == stored == stored_reference(stored.pullable)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "/var/x raw",
        "127.0.0.1:5000/one/image-1",
        "docker://r.example/a:latest",
        f"docker://r.example@{DIGEST}",
        f"docker://r.example/A@{DIGEST}",
        f"docker://r.example/a@{DIGEST}\n",
        f"vm:docker://r.example/a@{DIGEST}",
        f"docker://docker://r.example/a@{DIGEST}",
    ],
)
def test_foreign_sources_are_refused(source: str) -> None:
    with pytest.raises(TerminalError, match="is no image of ONEDock"):
        stored_reference(source)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for path in (text, f"docker://{text}", f"/cwd/docker://{text}"):
        try:
            source = parse_path(path)
        except TerminalError:
            continue
        if isinstance(source, RegistryImage):
            assert not set(str(source)) & set(" '\"\\$`;&|<>()\n\t")


@given(st.text(alphabet="abc012.:-_/@sha256", max_size=120))
def test_what_was_read_as_a_source_reads_back(text: str) -> None:
    try:
        stored = stored_reference(f"docker://{text}")
    except TerminalError:
        return
    assert stored_reference(stored.source) == stored
