"""A step as people read it in logs."""

import re
from dataclasses import fields

from onedock.nodeside.agent.steps import ConfigureSwitch, Step


def in_words(step: Step) -> str:
    """Such as ``add address eth0 10.0.0.7/24``: what is done, then to what."""
    verb = re.sub(r"(?<!^)(?=[A-Z])", " ", type(step).__name__).lower()
    if isinstance(step, ConfigureSwitch):
        return " ".join([verb, *step.commands[1:]])
    values = (getattr(step, field.name) for field in fields(step))
    return " ".join([verb, *(str(value) for value in values if value is not None and value is not False)])
