"""Generated logs and downloads."""
