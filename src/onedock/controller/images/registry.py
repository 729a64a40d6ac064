"""A client of the registry API (OCI distribution): what skopeo is slow at. Manifests, deletion, a ping.

Authentication is asked for by the registry (RFC 7235): ``Basic``, or ``Bearer`` with a token that a server
named by the registry hands out. Credentials are only sent after such a challenge, and over TLS unless the
registry itself is plain HTTP by the settings.
"""

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from onedock.controller.images.credentials import find_credentials
from onedock.controller.images.failures import connection_error
from onedock.controller.images.manifest import ACCEPT, Manifest, Platform, digest_of, read_manifest
from onedock.controller.images.source import DOCKER_HUB
from onedock.reconcilers.errors import NotFoundError, TerminalError, TransientError

_CERTIFICATES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
_LARGEST_ANSWER = 4 * 1024 * 1024
"""The largest manifest that registries must accept (OCI distribution)."""
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Registry:
    """One registry, seen for one repository: tokens are valid for one repository at a time."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        registry: str,
        repository: str,
        *,
        plain: bool,
        auth_file: Path | None,
    ) -> None:
        self._session = session
        self._name = registry
        self._repository = repository
        self._auth_file = auth_file
        host = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        self._api = f"{'http' if plain else 'https'}://{host}/v2/"
        self._plain = plain
        self._tls: ssl.SSLContext | bool = True if plain else _tls_context(host)
        self._authorization: str | None = None

    async def ping(self) -> None:
        """Return when the registry answers and lets us in. Raises TransientError or TerminalError."""
        self._check(await self._request("GET", ""), f"the registry API of {self._name}")

    async def manifest(self, version: str, wanted: Platform) -> Manifest:
        """The manifest of a tag or digest; of a multi-arch image, that of the wanted platform.

        Raises NotFoundError, TerminalError (denied, or no usable image) or TransientError.
        """
        for _ in range(3):  # an index may lead to an index, but nobody builds them deeper
            answer = await self._request("GET", f"{self._repository}/manifests/{version}")
            self._check(answer, self._label(version))
            if version.startswith("sha256:") and digest_of(answer.body) != version:
                raise TerminalError(f"{self._label(version)} was tampered with: its digest does not fit")
            found = read_manifest(answer.body, wanted)
            if isinstance(found, Manifest):
                return found
            version = found
        raise TerminalError(f"{self._label(version)}: an index within an index within an index: not an image")

    async def check_writable(self) -> None:
        """Return when images can be stored: an upload is begun and cancelled. Raises as ``ping`` does."""
        begun = await self._request("POST", f"{self._repository}/blobs/uploads/")
        self._check(begun, f"writing to {self._name}/{self._repository}")
        if location := begun.headers.get("Location"):
            headers = {"Authorization": self._authorization} if self._authorization else {}
            await self._send("DELETE", URL(self._api).join(URL(location, encoded=True)), headers)

    async def delete(self, digest: str) -> None:
        """Delete a manifest with its tags; absent is success. The registry's collector frees the layers."""
        answer = await self._request("DELETE", f"{self._repository}/manifests/{digest}")
        if answer.status == 405:
            raise TerminalError(f"{self._name} does not allow deletion: set REGISTRY_STORAGE_DELETE_ENABLED=true there")
        if answer.status != 404:
            self._check(answer, self._label(digest))

    async def _request(self, method: str, path: str) -> _Answer:
        headers = {"Authorization": self._authorization} if self._authorization else {}
        answer = await self._send(method, URL(self._api + path, encoded=True), headers)
        if answer.status == 401:  # no token yet, or one for less than this needs
            self._authorization = await self._authorize(answer)
            headers = {"Authorization": self._authorization}
            answer = await self._send(method, URL(self._api + path, encoded=True), headers)
        return answer

    async def _send(self, method: str, url: URL, headers: Mapping[str, str]) -> _Answer:
        try:
            async with self._session.request(
                method,
                url,
                headers={"Accept": ", ".join(ACCEPT), **headers},
                ssl=self._tls,
                timeout=_TIMEOUT,
                max_redirects=5,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > _LARGEST_ANSWER:
                        raise TerminalError(f"{self._name} answers with too much: is it a Docker registry?")
                return _Answer(response.status, response.headers, bytes(body))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise connection_error(error, self._name) from error

    async def _authorize(self, answer: _Answer) -> str:
        """The Authorization header for the answer's challenge."""
        credentials = find_credentials(self._auth_file, self._name, self._repository)
        for challenge in answer.headers.getall("WWW-Authenticate", []):
            scheme, _, rest = challenge.partition(" ")
            parameters = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
            if scheme.lower() == "basic" and credentials:
                return credentials.basic
            if scheme.lower() == "bearer" and "realm" in parameters:
                return await self._token(parameters, credentials.basic if credentials else None)
        raise TerminalError(
            f"{self._name} wants credentials for {self._repository}: add them to the file named by [registry] auth_file"
        )

    async def _token(self, parameters: Mapping[str, str], basic: str | None) -> str:
        try:
            realm = URL(parameters["realm"])
        except ValueError as error:
            raise TerminalError(f"{self._name} names no usable token server: ask its operator") from error
        if realm.scheme != "https" and not (self._plain and realm.scheme == "http"):
            raise TerminalError(f"{self._name} asks for credentials over plain HTTP: they are not sent")
        query = {name: parameters[name] for name in ("service", "scope") if name in parameters}
        answer = await self._send("GET", realm.update_query(query), {"Authorization": basic} if basic else {})
        self._check(answer, f"a token for {self._name}/{self._repository}")
        match _json(answer.body):
            case {"token": str(token)} | {"access_token": str(token)} if _TOKEN.fullmatch(token):
                return f"Bearer {token}"
        raise TerminalError(f"{self._name}: its token server answers with no token: ask its operator")

    def _check(self, answer: _Answer, label: str) -> None:
        if answer.status < 300:
            return
        match answer.status:
            case 404:
                raise NotFoundError(f"{label} not found: correct the name or the tag")
            case 401 | 403:
                raise TerminalError(f"{label}: access denied: is the name right? [registry] auth_file may need others")
            case 400 if b"HTTPS" in answer.body:
                raise TerminalError(f"{self._name} wants TLS: take it out of [registry] insecure_sources")
            case 429:
                raise TransientError(f"{self._name} limits the rate of requests: wait, or give credentials")
            case status if status >= 500:
                raise TransientError(f"{self._name} has a problem of its own (HTTP {status}): see its log")
        raise TerminalError(f"{label}: refused with HTTP {answer.status}: is this a Docker registry?")

    def _label(self, version: str) -> str:
        separator = "@" if version.startswith("sha256:") else ":"
        return f"{self._name}/{self._repository}{separator}{version}"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _tls_context(host: str) -> ssl.SSLContext:
    """The system's authorities and those that Docker and skopeo trust for this registry."""
    context = ssl.create_default_context()
    for directory in _CERTIFICATES:
        for certificate in (directory / host).glob("*.crt"):
            try:
                context.load_verify_locations(certificate)
            except (OSError, ssl.SSLError) as error:
                raise TerminalError(f"{certificate}: not a certificate that can be read: {error}") from error
    return context
