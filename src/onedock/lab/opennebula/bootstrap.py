"""What every OpenNebula is born with: security group 0 and the datastores 0, 1 and 2."""

from onedock.lab.opennebula.objects import Datastore, SecurityGroup
from onedock.lab.opennebula.store import Store
from onedock.lab.opennebula.templates import Template

_ALL: Template = {
    "ALLOW_ORPHANS": ["FORMAT"],
    "PERSISTENT_SNAPSHOTS": ["YES"],
    "RESTRICTED_DIRS": ["/"],
    "SAFE_DIRS": ["/var/tmp"],  # noqa: S108 - OpenNebula's default, nothing is written there
    "TM_MAD": ["local"],
}
_SYSTEM: Template = {
    "DISK_TYPE": ["FILE"],
    "DS_LIVE_MIGRATE": ["YES"],
    "DS_MIGRATE": ["YES"],
    "DS_MIGRATE_SNAP": ["YES"],
    "SHARED": ["NO"],
    "TYPE": ["SYSTEM_DS"],
}
_FILES: Template = {"CLONE_TARGET": ["SYSTEM"], "DS_MAD": ["fs"], "LN_TARGET": ["SYSTEM"], "TYPE": ["FILE_DS"]}
_IMAGES: Template = _FILES | {"DISK_TYPE": ["FILE"], "TYPE": ["IMAGE_DS"]}


def fill(store: Store, datastore_location: str) -> None:
    """Puts them into a new store; an old one is left as it is."""
    if store.security_groups.get(0) is not None:
        return
    rules: Template = {
        "RULE": [{"PROTOCOL": "ALL", "RULE_TYPE": "OUTBOUND"}, {"PROTOCOL": "ALL", "RULE_TYPE": "INBOUND"}]
    }
    store.save(SecurityGroup(0, "default", rules))
    stock = ((0, "system", 1, "-", _SYSTEM), (1, "default", 0, "fs", _IMAGES), (2, "files", 2, "fs", _FILES))
    for number, name, kind, driver, template in stock:
        path = f"{datastore_location}/{number}"
        store.save(Datastore(number, name, kind, driver, "local", path, _ALL | template))
