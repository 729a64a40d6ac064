"""ONEDock: OpenNebula runs Docker containers as if they were VMs."""

__version__ = "2.0.0.dev0"
