"""Notifications of the kernel, what they make due, and the look that puts a network back."""
