"""Images: where they come from, how they reach the registry, and what transfer commands say of them."""
