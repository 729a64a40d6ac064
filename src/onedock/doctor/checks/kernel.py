"""Whether the nodes have what networks need, in their kernels and besides, and let frames pass between VMs."""

from collections.abc import Iterator

from onedock.doctor.facts import Facts
from onedock.doctor.finding import Finding, error, warning

_PROGRAMS = {
    "nft": ("rules cannot be shown, and a FORWARD chain that drops is not found", "nftables"),
    "udhcpc": ("NICs with METHOD=dhcp get no address", "udhcpc, or busybox with that applet"),
}


def check(facts: Facts) -> Iterator[Finding]:
    """Modules, programs, and the trap of br_netfilter with a FORWARD chain that drops (Docker sets it so)."""
    for node in facts.nodes:
        if node.checkup is None:
            continue
        for module in node.checkup.missing:
            yield error(f"the kernel of node {node.name} has no {module}", f"modprobe {module}, on the node")
        for program in node.checkup.missing_programs:
            harm, package = _PROGRAMS.get(program, ("some networks cannot be made", program))
            yield warning(f"node {node.name} has no {program}: {harm}", f"apt-get install {package}, on the node")
        if not node.checkup.raw_frames_guarded:
            yield warning(
                f"the kernel of node {node.name} has no egress hook of nftables: containers pass the outbound rules of"
                " their security groups by raw sockets",
                "a kernel of release 5.16 or later on the node",
            )
        if node.checkup.bridge_filtered and node.checkup.forward_dropped:
            yield warning(
                f"br_netfilter is on and the FORWARD chain drops on node {node.name}: VMs of one bridge may not "
                "reach each other",
                "iptables -I DOCKER-USER -i BRIDGE -o BRIDGE -j ACCEPT, or "
                "sysctl -w net.bridge.bridge-nf-call-iptables=0, on the node",
            )
