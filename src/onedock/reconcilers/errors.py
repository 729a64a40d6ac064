"""The error taxonomy. Adapters raise by meaning; only the worker decides about retries.

The first 100 characters of a message are what a user sees in OpenNebula (protocol reference 1.2): cause first,
remedy second.
"""


class OnedockError(Exception):
    """Base of every error that ONEDock raises on purpose."""


class TerminalError(OnedockError):
    """Trying again cannot help: the request itself, the image or the settings must change."""


class TransientError(OnedockError):
    """Trying again may help: an engine, agent, registry or oned did not answer, or was busy."""


class NotFoundError(OnedockError):
    """The object is not there. Normal control flow inside a reconciler."""
