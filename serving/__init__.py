"""The embedded server that speaks TF Serving's API, and its client; nothing here imports training code."""

import os
import sys

# Nothing here needs Keras, but whoever imports TensorFlow first decides which Keras the process gets. The server may
# run in one process with training (the test suite, `tfdnc run`), which needs Keras 2, so make the same choice.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
