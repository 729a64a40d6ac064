"""Changes to Open vSwitch: its bridges and their ports."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConfigureSwitch:
    """One transaction of Open vSwitch: all of its commands, or none."""

    commands: tuple[str, ...]
    """Words of ``ovs-vsctl``, commands separated by ``--``."""


SwitchStep = ConfigureSwitch
