"""Starts engines on this machine, and checks that both jobs write the same bytes there as on the local runner."""
