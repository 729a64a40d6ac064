"""How bodies of routing messages begin (linux/rtnetlink.h, linux/neighbour.h)."""

import struct

LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, changed flags."""
ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index of the link."""
ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags. Also of rules."""
NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, index of the link, state, flags, type."""
