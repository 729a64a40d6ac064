"""What a failed connection means, for registries and web servers alike: cause first, remedy second."""

import errno

import aiohttp

from onedock.reconcilers.errors import OnedockError, TerminalError, TransientError


def connection_error(error: aiohttp.ClientError | TimeoutError, server: str) -> OnedockError:
    """Translate what aiohttp raised while speaking to ``server`` (host:port)."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TerminalError(
                f"{server}: its TLS certificate is not trusted: put the CA into /etc/docker/certs.d/{server}/"
            )
        case aiohttp.ClientSSLError():
            return TerminalError(
                f"{server} does not speak TLS: if it is plain HTTP on purpose, list it in [registry] "
                "insecure_sources (or set tls = false for the image store)"
            )
        case aiohttp.ClientConnectorDNSError():
            return TransientError(f"{server}: no such host: correct the name, or the front-end's DNS")
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.ECONNREFUSED:
            return TransientError(f"{server} refuses connections: start it, or correct host and port")
        case aiohttp.ClientConnectorError():
            return TransientError(f"{server} cannot be reached: {error.os_error.strerror}: check the network")
        case TimeoutError():
            return TransientError(f"{server} does not answer in time: check it and the network")
        case aiohttp.TooManyRedirects():
            return TerminalError(f"{server} redirects for ever: correct the address")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return TerminalError(f"{server}: not an address that can be asked: correct it")
    return TransientError(f"{server} broke off the conversation ({type(error).__name__}): look at its log")
