"""Networks as the controller reads them from a VM document."""

from tests.support.vm_xml import BRIDGED, Values, element, parsed, vm_xml

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.networks import build_network
from onedock.reconcilers.model import Network, Nic


def network(
    *nics: Values,
    context: Values | None = None,
    aliases: tuple[Values, ...] = (),
    rules: tuple[Values, ...] = (),
    settings: NetworkSettings | None = None,
) -> Network:
    """The network of a VM with these elements."""
    extra = "".join(element("SECURITY_GROUP_RULE", rule) for rule in rules)
    vm = parsed(vm_xml(nics=nics, context=context, aliases=aliases, extra=extra))
    return build_network(
        vm, hostname="web", settings=ContainerSettings(), networks_settings=settings or NetworkSettings()
    )[0]


def only(
    nic: Values,
    context: Values | None = None,
    aliases: tuple[Values, ...] = (),
    rules: tuple[Values, ...] = (),
    settings: NetworkSettings | None = None,
) -> Nic:
    """The same for a VM with one NIC."""
    (found,) = network(nic, context=context, aliases=aliases, rules=rules, settings=settings).nics
    return found


def changed(**values: str) -> Values:
    """A NIC on a bridge with other values."""
    return {**BRIDGED, **values}
