"""The admin's command, ``onedock``: reads the controller's API and shows it to people."""
