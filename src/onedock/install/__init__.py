"""Installation on front-end and node: what it changes is shown before, can be repeated, and is undone exactly."""
