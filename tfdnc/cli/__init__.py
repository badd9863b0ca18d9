"""The command line: the only package that imports all of beam_jobs, tfdnc and serving."""
