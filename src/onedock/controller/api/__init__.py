"""The HTTP API on a unix socket. Views parse, look and shape; they decide nothing and change nothing themselves."""
