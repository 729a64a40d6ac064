"""Settings and logging: the lowest layer, imported by every process of ONEDock."""
