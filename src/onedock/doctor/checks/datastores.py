"""Whether OpenNebula has datastores that fit: one for our images, and system datastores that take them."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, warning

FITTING = frozenset({"onedock", "ssh", "shared", "qcow2", "local"})
"""TM_MADs of system datastores that TM_MAD_CONF of onedock names."""


def check(facts: Facts) -> Iterator[Finding]:
    """System datastores by their TM_MAD, image datastores by their DS_MAD."""
    if facts.oned_error:
        return
    system = [datastore for datastore in facts.datastores if datastore.is_system]
    for datastore in system:
        if datastore.tm_mad not in FITTING:
            yield warning(
                f"system datastore {datastore.name} has TM_MAD={datastore.tm_mad}, which takes no Docker image: "
                "VMs that are placed on it fail",
                f"onedatastore update {datastore.id}  # TM_MAD=onedock, or keep our hosts off it by its cluster",
            )
    if not any(datastore.tm_mad in FITTING for datastore in system):
        yield warning(
            "there is no system datastore that fits", "onedatastore create, with TYPE=SYSTEM_DS TM_MAD=onedock"
        )
    if not any(datastore.ds_mad == "onedock" for datastore in facts.datastores):
        yield warning(
            "there is no image datastore of ONEDock", "onedatastore create, with DS_MAD=onedock TM_MAD=onedock"
        )
