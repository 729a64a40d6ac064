"""Routing messages of the kernel as bytes (linux/rtnetlink.h): a socket, what is said, what is answered."""
