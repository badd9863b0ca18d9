"""The command line: the only room that knows beam_jobs, tfdnc and serving together."""

import os

# Before anything imports TensorFlow, or `serving`, which silences less of it: missing GPUs are no news, and errors
# come back as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
