"""The lab: an embedded OpenNebula, a registry and an engine on one machine, to try and to test ONEDock."""
