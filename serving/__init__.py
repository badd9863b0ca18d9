"""The embedded server that speaks TF Serving's API, and its client; nothing here imports training code."""

import os
import sys

# Nothing here needs Keras, but the first import of TensorFlow decides which Keras the process gets. The server may
# share its process with training (in the tests, for example), which needs Keras 2: make the same choice here.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
