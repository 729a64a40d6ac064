"""DHCP for NICs: a client per NIC, run in the VM's namespace; its leases become addresses and routes."""
