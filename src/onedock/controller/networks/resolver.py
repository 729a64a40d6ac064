"""Name servers and search domains of a VM."""

from onedock.controller.documents import VmDocument
from onedock.controller.networks.nics import in_order, source_of
from onedock.controller.networks.values import address


def resolver(vm: VmDocument, extra: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(name servers, search domains) of all NICs in order, without repetitions; ``extra`` servers last.

    Raises:
        TerminalError: a name server is not an address.
    """
    servers: dict[str, None] = {}
    domains: dict[str, None] = {}
    for nic in (source_of(vm, element) for element in in_order(vm.nics)):
        servers.update(dict.fromkeys(address(word, "DNS") for word in nic.either("DNS", "DNS").split()))
        domains.update(dict.fromkeys(nic.either("SEARCH_DOMAIN", "SEARCH_DOMAIN").split()))
    servers.update(dict.fromkeys(extra))
    return tuple(servers), tuple(domains)
