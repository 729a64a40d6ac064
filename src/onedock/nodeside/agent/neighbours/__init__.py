"""What the neighbours of a VM are told and asked: who has which address."""
