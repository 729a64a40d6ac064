"""The matrix of who reaches whom: computed, measured, compared."""

from tests.support.oracle import World, reached
from tests.support.probing import Probing
from tests.support.topology import all_probes


def compare(world: World) -> None:
    """AssertionError names what is reached and should not be, and the other way round."""
    probes = all_probes(world)
    expected = {probe: reached(world, probe) for probe in probes}
    with Probing(world) as probing:
        measured = probing.measure(probes, expected=expected)
    wrong = [
        f"{probe}: VM {measured[probe]} instead of {expected[probe]}"
        for probe in probes
        if measured[probe] != expected[probe]
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(probes)} differ", *wrong[:20]])
