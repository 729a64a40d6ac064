"""The datastore driver against real registries, skopeo and a real web server, all on loopback."""

import asyncio
import base64
import gzip
import hashlib
import http.server
import io
import json
import math
import os
import socket
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from tests.support import images, processes
from tests.support.registry import CREDENTIALS, PrivateRegistry, why_not
from tests.support.waiting import eventually

from onedock.config.settings import ControllerSettings, RegistrySettings, Settings
from onedock.controller.images.datastore import Datastore
from onedock.controller.images.source import Stored, stored_reference
from onedock.controller.intents import ScriptResult

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

FIXTURES = Path(__file__).parents[1] / "fixtures"
MIB = 1024**2
PWNED = "/tmp/onedock-pwned"


@pytest.fixture(scope="module")
def store() -> Iterator[PrivateRegistry]:
    with PrivateRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def hub() -> Iterator[PrivateRegistry]:
    """A second registry, that images come from."""
    with PrivateRegistry() as registry:
        yield registry


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("archives")
    images.write_docker_archive(directory / "docker.tar")
    images.write_oci_archive(directory / "oci.tar")
    for kind in ("docker", "oci"):
        (directory / f"{kind}.tar.gz").write_bytes(gzip.compress((directory / f"{kind}.tar").read_bytes(), 1))
    return directory


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@dataclass
class Driver:
    """Calls the datastore as OpenNebula's scripts do."""

    datastore: Datastore
    safe_dirs: str

    async def __call__(
        self,
        action: str,
        path: str = "",
        *,
        image: int = 24000,
        source: str = "",
        size: int | str = 100,
        raw_path: bool = False,
        extra: str = "<FORMAT></FORMAT>",
    ) -> ScriptResult:
        shown = path if raw_path else escape(path)
        document = (
            f"<DS_DRIVER_ACTION_DATA><IMAGE><ID>{image}</ID><TYPE>0</TYPE><SOURCE>{escape(source)}</SOURCE>"
            f"<PATH>{shown}</PATH><SIZE>{size}</SIZE>{extra}</IMAGE><DATASTORE><TEMPLATE>"
            f"<RESTRICTED_DIRS>/</RESTRICTED_DIRS><SAFE_DIRS>{escape(self.safe_dirs)}</SAFE_DIRS>"
            "</TEMPLATE></DATASTORE></DS_DRIVER_ACTION_DATA>"
        )
        encoded = base64.b64encode(document.encode()).decode()
        async with asyncio.timeout(60):
            return await self.datastore.run(action, [str(image)], encoded)

    async def stored(self, path: str, **options: Any) -> Stored:
        """Copy an image in; what SOURCE then says."""
        return source_of(await self("cp", path, **options))


@pytest.fixture
def make(store: PrivateRegistry, hub: PrivateRegistry, archives: Path, scratch: Path) -> Callable[..., Driver]:
    def build(**changes: Any) -> Driver:
        registry = {
            "address": store.address,
            "tls": False,
            "insecure_sources": (hub.address,),
            "scratch_dir": scratch,
            "data_dir": store.directory,
            **changes,
        }
        settings = Settings(
            registry=RegistrySettings.model_validate(registry),
            controller=ControllerSettings(state_dir=scratch),
        )
        return Driver(Datastore(settings), str(archives))

    return build


@pytest.fixture
def driver(make: Callable[..., Driver], scratch: Path) -> Iterator[Driver]:
    yield make()
    assert content_of(scratch) == [], "the scratch directory is left clean"


def source_of(result: ScriptResult) -> Stored:
    assert result.code == 0, result.stderr
    source, form = result.stdout.split(" ")
    assert form == "raw\n"
    return stored_reference(source)


def failure(result: ScriptResult) -> str:
    """The message that OpenNebula shows: one line, and a good one."""
    assert result.code != 0
    assert result.stdout == ""
    line = result.stderr.removesuffix("\n")
    assert line.isprintable()
    assert 20 < len(line) < 900
    assert not line.startswith(("ERROR:", "INFO:", "WARN:", "DEBUG:"))
    return line


def manifest(stored: Stored, credentials: str = "") -> dict[str, Any] | None:
    """The stored image's manifest, read past all code under test; None when there is none."""
    request = urllib.request.Request(f"http://{stored.registry}/v2/{stored.repository}/manifests/{stored.digest}")
    for kind in ("docker.distribution.manifest.v2", "oci.image.manifest.v1"):
        request.add_header("Accept", f"application/vnd.{kind}+json")
    if credentials:
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        raise


def content_of(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def executed() -> bool:
    return Path("onedock-pwned").exists() or Path(PWNED).exists()


def size_mb(document: dict[str, Any]) -> int:
    sizes: list[int] = [part["size"] for part in (document["config"], *document["layers"])]
    return math.ceil(sum(sizes) / MIB)


# registry sources


@pytest.mark.parametrize("by", ["tag", "digest", "mangled by the command line"])
async def test_an_image_comes_from_another_registry(
    by: str, driver: Driver, hub: PrivateRegistry, store: PrivateRegistry, archives: Path
) -> None:
    pinned = hub.push(archives / "docker.tar", "tools/busybox:1.36")
    path = {
        "tag": f"docker://{hub.address}/tools/busybox:1.36",
        "digest": f"docker://{pinned}",
        "mangled by the command line": f"/var/lib/one/docker://{hub.address}/tools/busybox:1.36",
    }[by]
    stat = await driver("stat", path)
    stored = await driver.stored(path)
    assert (stored.registry, stored.repository) == (store.address, "onedock/image-24000")
    assert stored.digest == pinned.partition("@")[2]
    document = manifest(stored)
    assert document is not None
    assert stat == ScriptResult(0, f"{size_mb(document)}\n")


async def test_copying_twice_is_harmless(driver: Driver, hub: PrivateRegistry, archives: Path) -> None:
    path = f"docker://{hub.push(archives / 'docker.tar', 'twice')}"
    assert await driver.stored(path) == await driver.stored(path)


async def test_the_default_registry_is_used(make: Callable[..., Driver], hub: PrivateRegistry, archives: Path) -> None:
    hub.push(archives / "docker.tar", "plainname:2")
    stored = await make(default_source=hub.address).stored("docker://plainname:2")
    assert manifest(stored) is not None


@pytest.mark.parametrize("action", ["stat", "cp"])
async def test_a_missing_image(action: str, driver: Driver, hub: PrivateRegistry) -> None:
    message = failure(await driver(action, f"docker://{hub.address}/no/such:tag"))
    assert message == f"{hub.address}/no/such:tag not found: correct the name or the tag"


@pytest.mark.parametrize("action", ["stat", "cp"])
async def test_a_source_registry_that_is_down(action: str, make: Callable[..., Driver]) -> None:
    async with asyncio.timeout(20):
        message = failure(await make(insecure_sources=("127.0.0.1:1",))(action, "docker://127.0.0.1:1/x"))
    assert message.startswith("127.0.0.1:1 refuses connections")


async def test_the_image_store_is_down(make: Callable[..., Driver], archives: Path) -> None:
    driver = make(address="127.0.0.1:1")
    async with asyncio.timeout(20):
        assert "refuses connections" in failure(await driver("cp", f"{archives}/docker.tar"))[:100]
        assert "refuses connections" in failure(await driver("rm"))[:100]


async def test_tls_is_demanded_unless_settings_say_otherwise(make: Callable[..., Driver], hub: PrivateRegistry) -> None:
    driver = make(insecure_sources=())
    message = failure(await driver("stat", f"docker://{hub.address}/x"))
    assert message.startswith(f"{hub.address} does not speak TLS")


async def test_a_registry_with_credentials(make: Callable[..., Driver], archives: Path, tmp_path: Path) -> None:
    with PrivateRegistry(protected=True) as closed:
        pinned = closed.push(archives / "docker.tar", "secret/tool:1")
        path = f"docker://{closed.address}/secret/tool:1"
        for case, password, words in (
            ("right", CREDENTIALS, ""),
            ("wrong", "onedock:wrong", "access denied"),
            ("none", "", "wants credentials"),
        ):
            auth = tmp_path / f"{case}.json"
            entry = {closed.address: {"auth": base64.b64encode(password.encode()).decode()}} if password else {}
            auth.write_text(json.dumps({"auths": entry}))
            driver = make(insecure_sources=(closed.address,), auth_file=auth)
            if words:
                assert words in failure(await driver("stat", path))[:100]
                assert words in failure(await driver("cp", path))[:100]
            else:
                assert (await driver("stat", path)).code == 0
                assert (await driver.stored(path)).digest == pinned.partition("@")[2]
        # the same registry as image store: copied into, cloned in, deleted from
        driver = make(address=closed.address, auth_file=tmp_path / "right.json")
        stored = await driver.stored(f"{archives}/oci.tar", image=24001)
        assert manifest(stored, CREDENTIALS) is not None
        assert (await driver("rm", image=24001, source=stored.source)).code == 0
        assert manifest(stored, CREDENTIALS) is None
        denied = make(address=closed.address, auth_file=tmp_path / "wrong.json")
        assert "access denied" in failure(await denied("cp", f"{archives}/oci.tar"))[:100]


def platform_entry(pinned: str, size: int, **platform: str) -> dict[str, Any]:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    return {"mediaType": kind, "size": size, "digest": pinned.partition("@")[2], "platform": platform}


def put_index(registry: PrivateRegistry, name: str, entries: list[dict[str, Any]]) -> None:
    kind = "application/vnd.docker.distribution.manifest.list.v2+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    repository, _, tag = name.partition(":")
    url = f"http://{registry.address}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


async def test_of_a_multi_arch_image_the_one_for_this_machine_is_taken(
    driver: Driver, hub: PrivateRegistry, archives: Path, tmp_path: Path
) -> None:
    images.write_docker_archive(tmp_path / "other.tar", images.NO_SHELL)
    this = hub.push(archives / "docker.tar", "multi:this")
    other = hub.push(tmp_path / "other.tar", "multi:other")
    own_size = len(raw_manifest(this))
    s390x = platform_entry(other, len(raw_manifest(other)), os="linux", architecture="s390x")
    own = platform_entry(this, own_size, os="linux", architecture=images.ARCHITECTURE)
    put_index(hub, "multi:both", [s390x, own])
    put_index(hub, "multi:foreign", [s390x])
    assert (await driver.stored(f"docker://{hub.address}/multi:both")).digest == this.partition("@")[2]
    message = failure(await driver("stat", f"docker://{hub.address}/multi:foreign"))
    assert message.startswith(f"no image for linux/{images.ARCHITECTURE}: there is linux/s390x")


def raw_manifest(pinned: str) -> bytes:
    name, _, digest = pinned.partition("@")
    registry, _, repository = name.partition("/")
    kind = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    url = f"http://{registry}/v2/{repository}/manifests/{digest}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=kind), timeout=10) as answer:
        body: bytes = answer.read()
        return body


# archives


@pytest.mark.parametrize("name", ["docker.tar", "docker.tar.gz", "oci.tar", "oci.tar.gz"])
async def test_a_local_archive(name: str, driver: Driver, archives: Path) -> None:
    stat = await driver("stat", f"{archives}/{name}")
    assert stat.stdout == f"{math.ceil((archives / name).stat().st_size / MIB)}\n"
    document = manifest(await driver.stored(f"{archives}/{name}"))
    assert document is not None
    assert len(document["layers"]) == 1


async def test_an_oci_archive_with_an_index_of_platforms(driver: Driver, archives: Path) -> None:
    """As builders write it: one entry, which is an index, whose entries are images and attestations."""
    members: list[tuple[str, bytes]] = []
    with tarfile.open(archives / "oci.tar") as tar:
        for info in tar:
            content = tar.extractfile(info)
            members.append((f"./{info.name}", content.read() if content else b""))
    index = json.loads(dict(members).pop("./index.json"))
    image = {**index["manifests"][0], "platform": {"os": "linux", "architecture": images.ARCHITECTURE}}
    attestation = {**image, "platform": {"os": "unknown", "architecture": "unknown"}}
    kind = "application/vnd.oci.image.index.v1+json"
    inner = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [attestation, image]}).encode()
    digest = hashlib.sha256(inner).hexdigest()
    outer = {"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": f"sha256:{digest}", "size": len(inner)}]}
    members = [member for member in members if member[0] != "./index.json"]
    members += [("./index.json", json.dumps(outer).encode()), (f"./blobs/sha256/{digest}", inner)]
    (archives / "nested.tar").write_bytes(tar_of(*members))
    stored = await driver.stored(f"{archives}/nested.tar")
    assert stored.digest == image["digest"]


async def test_an_archive_may_have_any_name(driver: Driver, archives: Path) -> None:
    name = 'it\'s: a "$(touch onedock-pwned)" `id`;&|.tar'
    (archives / name).write_bytes((archives / "docker.tar").read_bytes())
    assert (await driver("stat", f"{archives}/{name}")).code == 0
    assert manifest(await driver.stored(f"{archives}/{name}")) is not None
    assert not executed()


class _Files(http.server.BaseHTTPRequestHandler):
    """Serves a directory: plainly, without Content-Length (/quiet/…), endlessly (/endless), or not (/locked)."""

    directory: Path

    def do_GET(self) -> None:
        _, kind, *rest = self.path.split("/")
        path = self.directory / (rest[0] if rest else kind)
        if kind == "endless":
            self._begin(None)
            self.wfile.write((self.directory / "docker.tar").read_bytes()[:512])
            with_zeros = bytes(MIB)
            try:
                while True:
                    self.wfile.write(with_zeros)
            except OSError:
                return
        if kind == "locked" or not path.is_file():
            self.send_error(403 if kind == "locked" else 404)
            return
        content = path.read_bytes()
        self._begin(None if kind == "quiet" else len(content) * (2 if kind == "torn" else 1))
        self.wfile.write(content)

    def _begin(self, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(archives: Path) -> Iterator[str]:
    handler = type("Files", (_Files,), {"directory": archives})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["docker.tar", "oci.tar.gz"])
async def test_an_archive_by_http(name: str, driver: Driver, web: str, archives: Path) -> None:
    size = math.ceil((archives / name).stat().st_size / MIB)
    assert await driver("stat", f"{web}/{name}") == ScriptResult(0, f"{size}\n")
    assert manifest(await driver.stored(f"{web}/{name}", size=size)) is not None


async def test_a_server_that_does_not_tell_the_size(driver: Driver, web: str) -> None:
    assert "does not tell the size" in failure(await driver("stat", f"{web}/quiet/docker.tar", size=""))[:100]
    assert await driver("stat", f"{web}/quiet/docker.tar", size=7) == ScriptResult(0, "7\n")
    assert manifest(await driver.stored(f"{web}/quiet/docker.tar", size=7)) is not None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/absent.tar", "not found"),
        ("/locked/docker.tar", "access denied"),
        ("/endless", "larger than the image's SIZE of 4 MB"),
        ("/torn/docker.tar", "broke off"),
    ],
)
async def test_a_download_that_fails(path: str, words: str, driver: Driver, web: str) -> None:
    assert words in failure(await driver("cp", f"{web}{path}", size=3))[:100]


async def test_a_web_server_that_is_down(driver: Driver) -> None:
    for action in ("stat", "cp"):
        message = failure(await driver(action, "http://user:secret@127.0.0.1:1/x.tar"))
        assert message.startswith("127.0.0.1:1 refuses connections")
        assert "secret" not in message


def tar_of(*members: tuple[str, bytes], pax: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.pax_headers = pax or {}
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with whatever size field, its checksum right."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


ONE_OCI = b'{"manifests": [{"digest": "sha256:%s", "size": 2, "mediaType": "x"}]}' % (b"0" * 64)
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "not an image archive"),
    "text": (lambda _: b"#!/bin/sh\nreboot\n", "not an image archive"),
    "xz": (lambda _: b"\xfd7zXZ\x00" + bytes(600), "packed with xz"),
    "truncated": (lambda good: good[: len(good) // 2], "damaged"),
    "truncated gzip": (lambda good: gzip.compress(good, 1)[:100_000], "damaged"),
    "broken gzip": (lambda _: b"\x1f\x8b" + bytes(100), "damaged"),
    "gzip of nothing": (lambda _: gzip.compress(b""), "damaged"),
    "no image": (lambda _: tar_of(("readme", b"hello")), "holds no image"),
    "manifest is no JSON": (lambda _: tar_of(("manifest.json", b"{{{")), "damaged"),
    "manifest nests": (lambda _: tar_of(("manifest.json", b"[" * 100_000)), "damaged"),
    "manifest is no list": (lambda _: tar_of(("manifest.json", b'{"a": 1}')), "holds no image"),
    "no images": (lambda _: tar_of(("manifest.json", b"[]")), "holds 0 images"),
    "two images": (lambda _: tar_of(("manifest.json", b"[{},{}]")), "holds 2 images"),
    "empty image": (lambda _: tar_of(("manifest.json", b"[{}]")), "cannot be copied"),
    "layer outside": (
        lambda _: tar_of(("manifest.json", b'[{"Config": "/etc/passwd", "Layers": ["../../../../etc/shadow"]}]')),
        "cannot be copied",
    ),
    "name outside": (lambda _: tar_of(("../../../../tmp/onedock-pwned", b"x")), "names a file outside"),
    "absolute name": (lambda _: tar_of((PWNED, b"x")), "names a file outside"),
    "blob outside": (
        lambda _: tar_of(("index.json", ONE_OCI), ("blobs/../../../tmp/onedock-pwned", b"x")),
        "names a file outside",
    ),
    "missing blob": (lambda _: tar_of(("oci-layout", b"{}"), ("index.json", ONE_OCI)), "cannot be copied"),
    "negative size": (lambda _: header(b"x", b"\xff" * 12) + bytes(1024), "damaged"),
    "huge size": (lambda _: header(b"x", b"\x80" + b"\x7f" * 11) + bytes(1024), "damaged"),
    "huge extended header": (
        lambda _: header(b"x", b"77777777777\0", b"x") + bytes(4096),
        "damaged",
    ),
    "negative extended header": (lambda _: header(b"x", b"\xff" * 12, b"x") + bytes(4096), "damaged"),
    "chain of extended headers": (lambda _: header(b"x", b"00000000000\0", b"x") * 5000, "damaged"),
    "sparse": (lambda _: header(b"manifest.json", b"00000001000\0", b"S") + bytes(1024), "damaged"),
    "a million members": (lambda _: header(b"x", b"00000000000\0") * 100_010, "damaged"),
    "bomb": (lambda _: gzip.compress(tar_of(("x", bytes(300 * MIB))), 1), "expands to more"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_archive_is_refused(case: str, driver: Driver, archives: Path) -> None:
    make_it, words = HOSTILE[case]
    (archives / "hostile.tar").write_bytes(make_it((archives / "docker.tar").read_bytes()))
    assert words in failure(await driver("cp", f"{archives}/hostile.tar"))[:100]
    assert not executed()


async def test_a_flipped_byte_is_found(make: Callable[..., Driver], archives: Path) -> None:
    content = bytearray((archives / "oci.tar").read_bytes())
    content[len(content) // 2] ^= 1
    (archives / "flipped.tar").write_bytes(content)
    with PrivateRegistry() as empty:  # one that has the layer is not sent it again
        result = await make(address=empty.address)("cp", f"{archives}/flipped.tar")
    assert "cannot be copied" in failure(result)


async def test_local_archives_must_be_in_a_safe_directory(driver: Driver, archives: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.tar"
    outside.write_bytes((archives / "docker.tar").read_bytes())
    (archives / "link.tar").symlink_to(outside)
    for path in (outside, archives / "link.tar", "/etc/shadow", "/nonexistent", f"{archives}/../../etc/passwd"):
        for action in ("stat", "cp"):
            assert "images may not be read from there" in failure(await driver(action, str(path)))


async def test_a_path_cannot_bring_its_own_directories(driver: Driver) -> None:
    path = "/etc/shadow</PATH></IMAGE><DATASTORE><TEMPLATE><SAFE_DIRS>/</SAFE_DIRS></TEMPLATE></DATASTORE><IMAGE><PATH>"
    assert "PATH must hold no XML" in failure(await driver("stat", path, raw_path=True))


# clone, rm, monitor, and what is not there


async def test_a_clone_outlives_its_original(driver: Driver, archives: Path, store: PrivateRegistry) -> None:
    original = await driver.stored(f"{archives}/docker.tar", image=24010)
    clone = source_of(await driver("clone", original.source, image=24011))
    assert (clone.repository, clone.digest) == ("onedock/image-24011", original.digest)
    assert (await driver("rm", image=24010, source=original.source)).code == 0
    assert manifest(original) is None
    assert manifest(clone) is not None
    again = await driver.stored(f"docker://{clone.pullable}", image=24012)
    assert again.digest == clone.digest


async def test_rm_frees_the_manifest_and_may_be_repeated(driver: Driver, archives: Path) -> None:
    stored = await driver.stored(f"{archives}/docker.tar", image=24020)
    assert manifest(stored) is not None
    for _ in range(2):
        assert await driver("rm", image=24020, source=stored.source) == ScriptResult(0)
        assert manifest(stored) is None
    assert (await driver.stored(f"{archives}/docker.tar", image=24020)) == stored
    assert manifest(stored) is not None


async def test_rm_of_an_import_whose_answer_was_lost(driver: Driver, archives: Path) -> None:
    stored = await driver.stored(f"{archives}/docker.tar", image=24021)
    assert await driver("rm", image=24021) == ScriptResult(0)
    assert manifest(stored) is None
    assert await driver("rm", image=24021) == ScriptResult(0)


async def test_rm_leaves_everything_else_alone(driver: Driver, archives: Path) -> None:
    other = await driver.stored(f"{archives}/docker.tar", image=24022)
    digest = other.digest
    for source in (
        other.source,
        f"docker://other.example/onedock/image-24023@{digest}",
        f"docker://{other.registry}/onedock/image-240230@{digest}",
        f"docker://{other.registry}/elsewhere/image-24023@{digest}",
        "/var/x raw",
        "/",
    ):
        failure(await driver("rm", image=24023, source=source))
    assert manifest(other) is not None


async def test_a_store_that_does_not_delete_says_how_to_change_it(make: Callable[..., Driver], archives: Path) -> None:
    with PrivateRegistry() as registry:
        driver = make(address=registry.address)
        stored = await driver.stored(f"{archives}/docker.tar")
        registry.stop()
        settings = json.loads(registry.config.read_text())
        settings["storage"]["delete"]["enabled"] = False
        registry.config.write_text(json.dumps(settings))
        registry.start()
        assert "does not allow deletion" in failure(await driver("rm", source=stored.source))[:100]


async def test_monitor_tells_the_size_of_the_store(driver: Driver, make: Callable[..., Driver]) -> None:
    result = await driver("monitor")
    values = dict(line.split("=") for line in result.stdout.splitlines())
    assert list(values) == ["TOTAL_MB", "FREE_MB", "USED_MB"]
    assert 0 < int(values["FREE_MB"]) < int(values["TOTAL_MB"])
    assert "No such file" in failure(await make(data_dir=Path("/nonexistent"))("monitor"))


@pytest.mark.parametrize("action", ["snap_delete", "snap_revert", "snap_flatten", "restore", "backup", "export"])
async def test_what_is_not_there_yet(action: str, driver: Driver) -> None:
    assert failure(await driver(action)).startswith("not supported yet: ")


async def test_requests_that_are_none(driver: Driver) -> None:
    for stdin in ("", "§", "AAAA", base64.b64encode(b"<!DOCTYPE x><y/>").decode(), "PHg+", "PHgvPg=="):
        failure(await driver.datastore.run("cp", ["1"], stdin))
    failure(await driver("fly"))
    failure(await driver("../../evil"))
    assert "data blocks" in failure(await driver("mkfs"))
    assert "saving the disk" in failure(await driver("mkfs", extra="<FORMAT>save_as</FORMAT>"))


@pytest.mark.parametrize(
    "name",
    ["$(touch onedock-pwned)", "`id`", "x'\"", "../../x", "x\ny", "--help", "x;reboot", "-", "@sha256:x"],
)
async def test_hostile_names_are_refused(name: str, driver: Driver) -> None:
    for path in (f"docker://{name}", f"docker://127.0.0.1:1/{name}", f"docker://127.0.0.1:1/x:{name}"):
        for action in ("stat", "cp"):
            failure(await driver(action, path))
    assert not executed()


async def test_every_recorded_request_is_answered_or_refused(driver: Driver) -> None:
    with (FIXTURES / "scripts.jsonl").open() as lines:
        records = [record for record in map(json.loads, lines) if record.get("kind") == "datastore"]
    assert len(records) > 15
    for record in records:
        xml = record["xml"].replace("docker://alpine", "docker://127.0.0.1:1/alpine")
        stdin = base64.b64encode(xml.encode()).decode()
        result = await driver.datastore.run(record["action"], record["argv"], stdin)
        if record["action"] == "monitor":
            assert result.code == 0
        else:
            failure(result)


async def test_a_cancelled_copy_leaves_nothing(make: Callable[..., Driver], scratch: Path, archives: Path) -> None:
    """skopeo hangs on a registry that is silent; its process must go, and its files too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        driver = make(address=f"127.0.0.1:{silent.getsockname()[1]}")
        copying = asyncio.create_task(driver("cp", f"{archives}/docker.tar.gz"))
        child = await eventually(lambda: children("skopeo"), what="skopeo runs")
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    assert not any(map(processes.alive, child))
    assert content_of(scratch) == []


async def test_what_a_killed_controller_left_is_removed(driver: Driver, archives: Path, scratch: Path) -> None:
    (scratch / "onedock-import-dead" / "oci").mkdir(parents=True)
    await driver.stored(f"{archives}/docker.tar")
    assert content_of(scratch) == []


def children(name: str) -> list[int]:
    return [pid for pid in processes.descendants(os.getpid()) if name in processes.command_line(pid)[:1]]
