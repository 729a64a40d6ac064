"""The way of a NIC's frames to the wire, read hop by hop."""
