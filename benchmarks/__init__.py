"""Measurements for those who change the code; not installed."""
