"""``onedock doctor``: facts are gathered once, each check judges them in a file of its own."""
