"""Measurements for developers of the code; not installed."""
