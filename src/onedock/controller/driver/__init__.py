"""What oned and monitord start: programs that relay to the controller and know nothing of Docker."""
