"""From OpenNebula's VM document to the spec that a node can run: names, limits, command, environment, network.

Pure. What a template may say and what it means for a container is decided here and nowhere else; every value is
untrusted. Sources of facts: protocol reference 6.4 (NIC), 8 (CONTEXT), 3.4 and 4.4 (DISK).
"""

import re
import shlex
from decimal import Decimal, InvalidOperation

from onedock.config.settings import ContainerSettings, NetworkSettings
from onedock.controller.documents import Attributes, VmDocument, parse_id
from onedock.controller.images.source import stored_reference
from onedock.controller.networks import build_network, network_notes
from onedock.reconcilers.errors import TerminalError
from onedock.reconcilers.model import ContainerSpec, NodeName, VmSpec
from onedock.reconcilers.resolver import merge

CPU_PERIOD_US = 100_000
MINIMUM_QUOTA_US = 1_000
MAX_ENV_BYTES = 128 * 1024 - 1
"""The kernel's limit of one argument or environment string (MAX_ARG_STRLEN), its final zero left out."""
MAX_ENVIRONMENT_BYTES = 1024 * 1024
"""Half of the kernel's default room for all arguments and variables."""
MAX_SPLIT_CHARACTERS = 128 * 1024
"""``shlex`` takes time with the square of a word's length: a word of one million would stop everything for 25 s."""
_CONTEXT_INTERNAL = frozenset({"DISK_ID", "TARGET"})
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_HOSTNAME_LABEL = re.compile(r"[^A-Za-z0-9-]+")


def instance_of(vm: VmDocument) -> str:
    """Tells this VM from one with the same id in an OpenNebula whose database was made anew."""
    return f"{vm.id}-{vm.stime}"


def root_disk(vm: VmDocument) -> Attributes:
    """The disk that holds the container's image: the first one.

    Raises:
        TerminalError: there is none, or others follow that a container could not get.
    """
    if not vm.disks:
        raise TerminalError("the VM has no disk; its first disk must be a Docker image (datastore with DS_MAD=onedock)")
    first, *others = sorted(vm.disks, key=lambda disk: _disk_id(disk))
    if others:
        extra = others[0]
        kind = extra.get("IMAGE") or extra.get("TYPE") or "volatile"
        raise TerminalError(
            f"disk {extra.get('DISK_ID', '?')} ({kind[:40]}): data disks are not supported yet; "
            "remove it from the template"
        )
    return first


def _disk_id(disk: Attributes) -> int:
    index = parse_id(disk.get("DISK_ID", ""))
    if index is None:
        raise TerminalError(f"DISK_ID is not a number: {disk.get('DISK_ID', '')[:40]!r}")
    return index


def build_spec(
    vm: VmDocument,
    *,
    node: NodeName,
    image_attributes: Attributes,
    settings: ContainerSettings,
    networks_settings: NetworkSettings,
) -> VmSpec:
    """Everything a node needs to run this VM. ``image_attributes`` is the TEMPLATE of the root disk's image.

    Raises:
        TerminalError: the template asks for something that cannot be done; the text says what and the remedy.
    """
    disk = root_disk(vm)
    notes = list(network_notes(vm))
    hostname = host_name(vm)
    network, hosts = build_network(vm, hostname=hostname, settings=settings, networks_settings=networks_settings)
    names = merge(network)
    shares, quota = cpu_limits(vm.attributes)
    command = _first(
        _option("DOCKERRUN", vm.user_attributes, vm.attributes, disk, image_attributes),
        settings.default_command,
    )
    entrypoint = _option("DOCKER_ENTRYPOINT", vm.user_attributes, vm.attributes, disk, image_attributes)
    container = ContainerSpec(
        image=stored_reference(disk.get("SOURCE", "")).pullable,
        hostname=hostname,
        command=split_command(command, "DOCKERRUN") if command else None,
        entrypoint=split_command(entrypoint, "DOCKER_ENTRYPOINT") if entrypoint else None,
        environment=environment(vm, image_attributes, notes),
        working_dir=_option("DOCKER_WORKDIR", vm.user_attributes, vm.attributes, disk, image_attributes) or None,
        user=_option("DOCKER_USER", vm.user_attributes, vm.attributes, disk, image_attributes) or None,
        dns=names.servers,
        search=names.search,
        hosts=hosts,
        cpu_shares=shares,
        cpu_quota_us=quota,
        memory_bytes=memory_bytes(vm.attributes),
        pids=settings.pids_limit,
        log_max_bytes=settings.log_max_mb * 1024 * 1024,
    )
    return VmSpec(
        vm=vm.id,
        name=vm.name,
        node=node,
        instance=instance_of(vm),
        container=container,
        network=network,
        notes=tuple(notes),
    )


def _first(*values: str) -> str:
    return next((value for value in values if value.strip()), "")


def _option(name: str, *sources: Attributes) -> str:
    return _first(*(source.get(name, "") for source in sources))


def split_command(text: str, attribute: str) -> tuple[str, ...]:
    """Split a command line into words by the rules of a shell's quotes; no shell ever sees it.

    Raises:
        TerminalError: quotes do not match, a word is too long, or there is none.
    """
    words = _split(text, attribute)
    if not words:
        raise TerminalError(f"{attribute} is empty: {text[:60]!r}")
    for word in words:
        if len(word.encode()) > MAX_ENV_BYTES:
            raise TerminalError(
                f"{attribute} has a word of {len(word)} characters; the kernel's limit is {MAX_ENV_BYTES} bytes"
            )
    return tuple(words)


def _split(text: str, attribute: str) -> list[str]:
    if len(text) > MAX_SPLIT_CHARACTERS:
        raise TerminalError(f"{attribute} has {len(text)} characters; at most {MAX_SPLIT_CHARACTERS} work; shorten it")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise TerminalError(f"{attribute} cannot be split into words: {error}: {text[:60]!r}") from None


def host_name(vm: VmDocument) -> str:
    """SET_HOSTNAME of the context, else the VM's name, made a valid host name (RFC 1123, at most 63 characters)."""
    wanted = (vm.context or {}).get("SET_HOSTNAME", "") or vm.name
    labels = [_HOSTNAME_LABEL.sub("-", label).strip("-")[:63] for label in wanted.strip().split(".")]
    name = ".".join(label for label in labels if label)[:63].strip("-.")
    return name or f"one-{vm.id}"


def _decimal(text: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise TerminalError(f"{name} is not a number: {text[:40]!r}") from None
    if not value.is_finite() or value <= 0 or value > 100_000_000:
        raise TerminalError(f"{name} must be positive and sane, not {text[:40]!r}")
    return value


def cpu_limits(attributes: Attributes) -> tuple[int, int]:
    """(shares, quota in µs per 100 ms): the weight from CPU, the quota from VCPU, or from CPU where absent."""
    cpu = _decimal(attributes.get("CPU", "").strip() or "1", "CPU")
    vcpu = attributes.get("VCPU", "").strip()
    cores = _decimal(vcpu, "VCPU") if vcpu else cpu
    shares = min(max(int(cpu * 1024), 2), 262_144)
    return shares, max(int(cores * CPU_PERIOD_US), MINIMUM_QUOTA_US)


def memory_bytes(attributes: Attributes) -> int:
    """MEMORY (MB) in bytes. Raises TerminalError when it is missing or not positive."""
    text = attributes.get("MEMORY", "").strip()
    if not text:
        raise TerminalError("the VM has no MEMORY; set it in the template (MB)")
    # Never 0, which would mean no limit; the engine says what it needs at least.
    return max(int(_decimal(text, "MEMORY") * 1024 * 1024), 1)


def environment(vm: VmDocument, image_attributes: Attributes, notes: list[str]) -> tuple[tuple[str, str], ...]:
    """Variables of the container: the context's attributes, then DOCKER_ENV of image, template and user template.

    A context attribute that is too long for the kernel is left out and said in ``notes``; a DOCKER_ENV that is
    too long is an error, because somebody asked for just that.

    Raises:
        TerminalError: a DOCKER_ENV is not NAME=value, or too long.
    """
    merged: dict[str, str] = {}
    for name, value in (vm.context or {}).items():
        if name in _CONTEXT_INTERNAL:
            continue
        if len(name) + 1 + len(value.encode(errors="surrogateescape")) > MAX_ENV_BYTES:
            notes.append(
                f"CONTEXT/{name} is left out of the environment: {len(value)} characters exceed the kernel's limit"
            )
            continue
        merged[name] = value
    image_variables = image_attributes.get("DOCKER_ENV", "")
    for text in (image_variables, *vm.environment):
        merged.update(_assignments(text))
    merged.update(vm.environment_pairs)
    for name, value in merged.items():
        if not _ENV_NAME.match(name) or "\0" in value:
            raise TerminalError(f"DOCKER_ENV: {name[:40]!r} is not a valid name for a variable")
        if len(name) + 1 + len(value.encode(errors="surrogateescape")) > MAX_ENV_BYTES:
            raise TerminalError(
                f"DOCKER_ENV: {name[:40]} has {len(value)} characters; the kernel's limit is {MAX_ENV_BYTES}"
            )
    total = sum(len(name) + len(value.encode(errors="surrogateescape")) + 2 for name, value in merged.items())
    if total > MAX_ENVIRONMENT_BYTES:
        raise TerminalError(
            f"the environment has {total} bytes in all; at most {MAX_ENVIRONMENT_BYTES} work; "
            "shorten CONTEXT or DOCKER_ENV"
        )
    return tuple(sorted(merged.items()))


def _assignments(text: str) -> dict[str, str]:
    """``A=1 B="two words"`` as a dict."""
    pairs: dict[str, str] = {}
    for word in _split(text, "DOCKER_ENV"):
        name, separator, value = word.partition("=")
        if not separator:
            raise TerminalError(f"DOCKER_ENV must be NAME=value words, found {word[:40]!r}; quote values with blanks")
        pairs[name] = value
    return pairs
