"""The node agent: the only code that touches netlink, namespaces and cgroup files. Root, small, one per node.

It does as the controller says over a unix socket (docs/protocols.md), remembers the last wanted network of
each VM, and decides nothing about containers. Its end changes nothing on the node.
"""
