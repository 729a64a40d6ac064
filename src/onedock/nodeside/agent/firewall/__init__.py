"""Security groups and filters against forged packets, by nftables."""
