"""What can go wrong in the lab, told to the person in front of it."""


class LabError(Exception):
    """The lab cannot do it. The text names cause, remedy and where to read more."""
