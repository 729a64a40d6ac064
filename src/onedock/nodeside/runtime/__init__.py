"""The OCI runtime that the engine calls for containers that are VMs: runc, in the VM's own network namespace.

``onedock-runtime`` is the shell front that containerd runs in place of runc. Only for ``create`` it starts
``patch_bundle``, which names the namespace in the bundle; the namespace of a container is noted by the node agent
in a directory, as a file named after the container's id. Nothing here runs in the container or reads its files.
"""
