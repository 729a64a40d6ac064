"""The decisions: frozen models, pure plans, and the ports that a node must satisfy. No vendor is imported here."""
