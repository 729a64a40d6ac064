"""Whether the clocks of the nodes agree with the one here: logs of several machines are read side by side."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning

WARNING_S, ERROR_S = 2.0, 30.0


def check(facts: Facts) -> Iterator[Finding]:
    """The worse of engine and agent, which are one machine's."""
    for node in facts.nodes:
        skew = max(node.engine_skew_s, node.agent_skew_s, key=abs)
        if abs(skew) > WARNING_S:
            word = "ahead of" if skew > 0 else "behind"
            found = error if abs(skew) > ERROR_S else warning
            yield found(
                f"the clock of node {node.name} is {abs(skew):.0f} s {word} the clock here",
                "timedatectl set-ntp true, on both machines",
            )
