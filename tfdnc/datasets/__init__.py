"""Data sets: generated logs and downloads."""
