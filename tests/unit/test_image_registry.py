"""The registry client against a small registry in this process: authentication, and answers that are wrong."""

import base64
import hashlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import test_utils, web

from onedock.controller.images.credentials import find_credentials
from onedock.controller.images.manifest import Manifest, Platform, read_manifest
from onedock.controller.images.registry import Registry
from onedock.controller.images.skopeo import explain
from onedock.reconcilers.errors import NotFoundError, OnedockError, TerminalError, TransientError

BODY = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": "sha256:c", "size": 10},
        "layers": [{"digest": "sha256:l", "size": 1000}, {"digest": "sha256:l", "size": 1000}],
    }
).encode()
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


@dataclass
class FakeRegistry:
    """A registry with one image, ``team/tool:1``, that hands out tokens to one user."""

    auth: str = "bearer"
    """``none``, ``basic`` or ``bearer``."""
    status: int = 200
    body: bytes = BODY
    realm: str = ""
    address: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    """The Authorization headers that came."""

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["FakeRegistry"]:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_route("*", "/v2/{path:.*}", self._serve)
        server = test_utils.TestServer(app, scheme="https" if tls else "http")
        await server.start_server(ssl=tls)
        async with server:
            self.address = f"127.0.0.1:{server.port}"
            self.realm = self.realm or f"http://{self.address}/token"
            yield self

    async def _token(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != BASIC:
            return web.json_response({}, status=401)
        token = f"token-{len(self.tokens)}"
        self.tokens[f"Bearer {token}"] = request.query["scope"]
        return web.json_response({"token": token})

    async def _serve(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization", "")
        self.seen.append(authorization)
        action = "delete" if request.method == "DELETE" else "pull"
        scope = f"repository:team/tool:{action}"
        challenge = {
            "none": "",
            "basic": 'Basic realm="test"' if authorization != BASIC else "",
            "bearer": f'Bearer realm="{self.realm}",service="test",scope="{scope}"'
            if self.tokens.get(authorization) != scope
            else "",
        }[self.auth]
        if challenge:
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if request.method == "DELETE":
            return web.Response(status=202)
        return web.Response(status=self.status, body=self.body)


BASIC = "Basic " + base64.b64encode(b"me:se:cret").decode()


def auth_file(directory: Path, **auths: str) -> Path:
    path = directory / "auth.json"
    path.write_text(json.dumps({"auths": {name: {"auth": value[6:]} for name, value in auths.items()}}))
    return path


@asynccontextmanager
async def client(registry: FakeRegistry, auth: Path | None = None) -> AsyncIterator[Registry]:
    async with registry.running(), aiohttp.ClientSession() as session:
        yield Registry(session, registry.address, "team/tool", plain=True, auth_file=auth)


@pytest.mark.parametrize("kind", ["none", "basic", "bearer"])
async def test_credentials_are_sent_only_when_asked_for(kind: str, tmp_path: Path) -> None:
    fake = FakeRegistry(auth=kind)
    async with fake.running(), aiohttp.ClientSession() as session:
        auth = auth_file(tmp_path, **{fake.address: BASIC})
        registry = Registry(session, fake.address, "team/tool", plain=True, auth_file=auth)
        assert await registry.manifest("1", Platform()) == Manifest(DIGEST, 1010)
        await registry.delete(DIGEST)
        await registry.ping()
    assert fake.seen[0] == ""
    assert (BASIC in fake.seen) is (kind == "basic")


async def test_without_credentials_the_user_is_told() -> None:
    async with client(FakeRegistry(auth="basic")) as registry:
        with pytest.raises(TerminalError, match="wants credentials for team/tool"):
            await registry.manifest("1", Platform())


@pytest.mark.parametrize("realm", ["http://elsewhere.example/token", "file:///etc/passwd", "no address"])
async def test_credentials_do_not_travel_to_strange_places(realm: str, tmp_path: Path) -> None:
    fake = FakeRegistry(realm=realm)
    async with fake.running(), aiohttp.ClientSession() as session:
        auth = auth_file(tmp_path, **{fake.address: BASIC})
        registry = Registry(session, fake.address, "team/tool", plain=True, auth_file=auth)
        with pytest.raises(OnedockError):
            await registry.manifest("1", Platform())
    assert BASIC not in fake.seen


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, b"", NotFoundError, "team/tool:1 not found"),
        (403, b"", TerminalError, "access denied"),
        (429, b"", TransientError, "limits the rate"),
        (500, b"", TransientError, "problem of its own"),
        (418, b"", TerminalError, "HTTP 418"),
        (400, b"Client sent an HTTP request to an HTTPS server.", TerminalError, "wants TLS"),
        (200, b"<html>", TerminalError, "no manifest"),
        (200, b"[" * 100_000, TerminalError, "no manifest"),
        (200, b"{}", TerminalError, "no known kind"),
        (200, b'{"schemaVersion": 1}', TerminalError, "outdated"),
        (200, b'{"config": {}, "layers": []}', TerminalError, "damaged"),
        (200, b'{"config": {"digest": "c", "size": -5}, "layers": []}', TerminalError, "damaged"),
        (200, b'{"manifests": []}', TerminalError, "no image for linux/amd64"),
        (200, b'{"manifests": [{"digest": "../../../other/manifests/1"}]}', TerminalError, "damaged"),
        (200, b'{"manifests": [{"digest": "sha256:%s"}]}' % (b"0" * 64), TerminalError, "tampered"),
        (200, bytes(5_000_000), TerminalError, "too much"),
    ],
)
async def test_answers_that_are_no_image(status: int, body: bytes, kind: type[OnedockError], words: str) -> None:
    async with client(FakeRegistry(auth="none", status=status, body=body)) as registry:
        with pytest.raises(kind, match=words):
            await registry.manifest("1", Platform())


async def test_another_content_than_the_digest_says_is_refused() -> None:
    async with client(FakeRegistry(auth="none", body=BODY + b" ")) as registry:
        with pytest.raises(TerminalError, match="tampered"):
            await registry.manifest(DIGEST, Platform())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "registry.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(argv, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_must_be_trusted(trusted: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    fake = FakeRegistry(auth="none")
    async with fake.running(server_side), aiohttp.ClientSession() as session:
        registry = Registry(session, fake.address, "team/tool", plain=False, auth_file=None)
        if trusted:
            assert await registry.manifest("1", Platform()) == Manifest(DIGEST, 1010)
        else:
            with pytest.raises(TerminalError, match=f"{fake.address}: its TLS certificate is not trusted"):
                await registry.manifest("1", Platform())


def digest_for(platform: str) -> str:
    return f"sha256:{hashlib.sha256(platform.encode()).hexdigest()}"


def index(*platforms: str) -> bytes:
    entries = []
    for platform in platforms:
        system, architecture, variant = (*platform.split("/"), "")[:3]
        kind = {"os": system, "architecture": architecture, "variant": variant}
        entries.append({"digest": digest_for(platform), "platform": kind})
    return json.dumps({"manifests": entries}).encode()


def test_the_baseline_of_a_platform_is_preferred() -> None:
    both = index("linux/amd64/v3", "windows/amd64", "linux/amd64", "linux/arm64/v8")
    assert read_manifest(both, Platform("amd64")) == digest_for("linux/amd64")
    assert read_manifest(both, Platform("arm64")) == digest_for("linux/arm64/v8")
    with pytest.raises(TerminalError, match="there is linux/amd64, linux/arm64, windows/amd64"):
        read_manifest(both, Platform("s390x"))


@pytest.mark.parametrize(
    ("key", "registry", "repository", "found"),
    [
        ("r.example:5", "r.example:5", "a/b", True),
        ("r.example:5/a", "r.example:5", "a/b", True),
        ("r.example:5/a/b", "r.example:5", "a/b", True),
        ("https://r.example:5/v1/", "r.example:5", "a/b", True),
        ("https://index.docker.io/v1/", "docker.io", "library/alpine", True),
        ("docker.io", "docker.io", "library/alpine", True),
        ("r.example", "r.example:5", "a/b", False),
        ("r.example:5/ab", "r.example:5", "a/b", False),
        ("r.example:5/b", "r.example:5", "a/b", False),
    ],
)
def test_credentials_by_key(key: str, registry: str, repository: str, found: bool, tmp_path: Path) -> None:
    credentials = find_credentials(auth_file(tmp_path, **{key: BASIC}), registry, repository)
    assert (credentials is not None) is found
    if credentials:
        assert (credentials.user, credentials.password, credentials.basic) == ("me", "se:cret", BASIC)
        assert "cret" not in repr(credentials)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"auths": 5}', '{"auths": {"r": {"auth": "§"}}}', '{"auths": {"r": 1}}']
)
def test_an_auth_file_that_cannot_be_used(content: str, tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(content)
    for path in (tmp_path / "auth.json", tmp_path / "absent.json"):
        with pytest.raises(TerminalError, match=path.name):
            find_credentials(path, "r", "a")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("reading manifest xx in r/x: manifest unknown: manifest unknown", TerminalError, "not found"),
        ("unauthorized: authentication required", TerminalError, "access denied"),
        ('Get \\"https://r/v2/\\": dial tcp 127.0.0.1:1: connect: connection refused', TransientError, "refuses"),
        ('Get \\"https://r/v2/\\": x509: certificate signed by unknown authority', TerminalError, "certificate"),
        ("http: server gave HTTP response to HTTPS client", TerminalError, "does not speak TLS"),
        ("something new", TerminalError, "the image cannot be copied: something new"),
    ],
)
def test_what_skopeo_says_is_translated(said: str, kind: type[OnedockError], words: str) -> None:
    error = explain(f'time="2026-11-21T05:17:26Z" level=fatal msg="{said}"\n')
    assert isinstance(error, kind)
    assert words in str(error)[:100]


@pytest.mark.parametrize("stderr", ["", "panic: x\n\n", "\n"])
def test_skopeo_may_say_anything(stderr: str) -> None:
    assert str(explain(stderr)).startswith("the image cannot be copied: ")
