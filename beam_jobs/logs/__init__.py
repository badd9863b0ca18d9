"""Logs: their files and formats, from bytes to checked rows."""
