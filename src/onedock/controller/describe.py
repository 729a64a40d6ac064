"""The spec of a VM from its document and the template of its image, which only oned has."""

from onedock.config.settings import Settings
from onedock.controller.documents import VmDocument, parse_id
from onedock.controller.oned import Oned
from onedock.controller.spec import build_spec, root_disk
from onedock.reconcilers.errors import NotFoundError
from onedock.reconcilers.model import NodeName, VmSpec


async def describe(oned: Oned, settings: Settings, vm: VmDocument, node: NodeName) -> VmSpec:
    """Build the VM's spec.

    The image's DOCKERRUN and its like are in no driver message unless oned.conf inherits them
    (INHERIT_IMAGE_ATTR), so they are asked for.

    Raises:
        TransientError: oned does not answer.
        TerminalError: the template asks for something that cannot be done.
    """
    image = parse_id(root_disk(vm).get("IMAGE_ID", ""))
    try:
        attributes = {} if image is None else await oned.image_attributes(image)
    except NotFoundError:
        attributes = {}  # deleted while the VM lives: what the disk inherited still counts
    return build_spec(
        vm,
        node=node,
        image_attributes=attributes,
        settings=settings.containers,
        networks_settings=settings.networks,
    )
