"""Name servers of a VM: what its container's resolv.conf says, which the engine makes and the container may change."""
