"""Whether the nodes' kernels have what networks need, and let frames pass between VMs."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning


def check(facts: Facts) -> Iterator[Finding]:
    """Modules, and the trap of br_netfilter with a FORWARD chain that drops (Docker sets it so)."""
    for node in facts.nodes:
        if node.checkup is None:
            continue
        for module in node.checkup.missing:
            yield error(f"the kernel of node {node.name} has no {module}", f"modprobe {module}, on the node")
        if node.checkup.bridge_filtered and node.checkup.forward_dropped:
            yield warning(
                f"br_netfilter is on and the FORWARD chain drops on node {node.name}: VMs of one bridge may not "
                "reach each other",
                "iptables -I DOCKER-USER -i BRIDGE -o BRIDGE -j ACCEPT, or "
                "sysctl -w net.bridge.bridge-nf-call-iptables=0, on the node",
            )
