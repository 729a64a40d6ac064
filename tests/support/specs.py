"""Specs and desired states for tests, and strategies that make them."""

from dataclasses import replace

from hypothesis import strategies as st
from tests.support.effects import NEVER, provided

from onedock.reconcilers.model import (
    Container,
    ContainerId,
    ContainerSpec,
    Desired,
    Network,
    Nic,
    NodeName,
    Observed,
    Phase,
    Power,
    VmId,
    VmSpec,
    container_name,
)

VM = VmId(25001)
NODE = NodeName("node1")
DIGEST = "0123456789abcdef" * 4
IMAGE = f"127.0.0.1:5000/onedock/image-7@sha256:{DIGEST}"


def nic(vm: VmId = VM, index: int = 0, *, bridge: str = "onebr0") -> Nic:
    """One NIC with an address of its own."""
    return Nic(
        index=index,
        name=f"eth{index}",
        host_name=f"one-{vm}-{index}",
        mac=f"02:00:0a:00:{index:02x}:0a",
        bridge=bridge,
        addresses=(f"10.0.{index}.10/24",),
        gateways=("10.0.0.1",) if index == 0 else (),
    )


def vm_spec(vm: VmId = VM, *, instance: str = "first", node: NodeName = NODE, image: str = IMAGE) -> VmSpec:
    """A small VM with one NIC."""
    container = ContainerSpec(image=image, hostname="web", memory_bytes=64 * 1024 * 1024)
    return VmSpec(vm, "web", node, instance, container, Network(vm, (nic(vm),)))


def running(spec: VmSpec) -> Desired:
    """That VM is to run."""
    return Desired(vm=spec.vm, node=spec.node, power=Power.RUNNING, generation=1, spec=spec)


_SPECS = st.builds(
    lambda instance, hostname, memory, nics: VmSpec(
        VM,
        "web",
        NODE,
        instance,
        ContainerSpec(image=IMAGE, hostname=hostname, memory_bytes=memory),
        Network(VM, tuple(nic(VM, index) for index in range(nics))),
    ),
    instance=st.sampled_from(["first", "second"]),
    hostname=st.sampled_from(["web", "db"]),
    memory=st.sampled_from([0, 64 << 20, 128 << 20]),
    nics=st.integers(0, 3),
)
GRACES = st.sampled_from([None, 0.5, 10.0])
RUNS = st.sampled_from(["run-a", "run-b"])
"""Moments at which a run of a container may have begun."""


@st.composite
def desired_states(draw: st.DrawFn, power: Power | None = None) -> Desired:
    """Any desired state that the controller can make."""
    chosen = power or draw(st.sampled_from(Power))
    spec = draw(_SPECS) if chosen is not Power.ABSENT else None
    if chosen is Power.STOPPED and draw(st.booleans()):
        spec = None
    return Desired(
        vm=VM,
        node=NODE,
        power=chosen,
        generation=draw(st.integers(0, 5)),
        spec=spec,
        grace_s=draw(GRACES),
        restart_from=draw(st.none() | RUNS) if chosen is Power.RUNNING else None,
    )


@st.composite
def containers(draw: st.DrawFn) -> Container:
    """A left-over of this VM in any phase that an engine keeps, of this or another instance and spec."""
    spec = draw(_SPECS)
    phase = draw(st.sampled_from([Phase.CREATED, Phase.RUNNING, Phase.PAUSED, Phase.RESTARTING, Phase.EXITED]))
    return Container(
        id=ContainerId("old"),
        name=container_name(VM),
        vm=VM,
        instance=spec.instance,
        spec_digest=spec.container.digest(),
        image=IMAGE,
        phase=phase,
        started_at=NEVER if phase is Phase.CREATED else draw(RUNS),
        exit_code=draw(st.sampled_from([0, 1, 137])) if phase is Phase.EXITED else 0,
        limits=draw(st.sampled_from([spec.container.limits(), (2, 0, 0, 0)])),
    )


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    """Anything that may be found of this VM on a node."""
    container = draw(st.none() | containers())
    network = None
    if draw(st.booleans()):
        bound = draw(st.sampled_from([(), ("old",), ("gone", "old"), ("gone",)]))
        network = provided(draw(_SPECS).network, tuple(ContainerId(name) for name in bound))
        down = draw(st.booleans())
        network = replace(network, nics=tuple(replace(seen, up=seen.up and not down) for seen in network.nics))
    return Observed(draw(st.booleans()), container, network)
