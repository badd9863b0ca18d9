"""Starts engines on this machine and shows that both jobs write the same bytes there as without one."""
