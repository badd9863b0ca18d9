"""The command line: the only room that knows beam_jobs, tfdnc and serving together."""
