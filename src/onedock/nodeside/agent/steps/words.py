"""A step as people read it in logs."""

import re
from dataclasses import fields
from textwrap import shorten

from onedock.nodeside.agent.steps import AddPortVlans, ConfigureSwitch, RemovePortVlans, Step

_LONGEST = 120
"""Characters: a trunk may have 4094 VLANs."""


def in_words(step: Step) -> str:
    """Such as ``add address eth0 10.0.0.7/24``: what is done, then to what."""
    verb = re.sub(r"(?<!^)(?=[A-Z])", " ", type(step).__name__).lower()
    if isinstance(step, ConfigureSwitch):
        return " ".join([verb, *step.commands[1:]])
    if isinstance(step, AddPortVlans | RemovePortVlans):
        return " ".join([verb, step.name, _said(tuple((vid, "own" if own else "tagged") for vid, own in step.vlans))])
    values = (_said(getattr(step, field.name)) for field in fields(step))
    return " ".join([verb, *filter(None, values)])


def _said(value: object) -> str:
    """Of pairs, such as a bridge's options, ``name=value`` each; nothing of what is not asked for."""
    if isinstance(value, tuple):
        return shorten(" ".join(f"{name}={setting}" for name, setting in value), _LONGEST, placeholder=" …")
    return "" if value is None or value is False else str(value)
