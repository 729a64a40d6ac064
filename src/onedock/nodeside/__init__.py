"""The effects on a node: the engine adapter, the node agent and its client, the OCI runtime wrapper."""
