"""What every test relies on."""

import os

# Set before any test module imports TensorFlow, whichever comes first.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
