"""The retriever: user tower with task conditioning, item tower, intent head, and the losses that train them."""

import tfdnc.backend  # noqa: F401  TFRS imports TensorFlow, and the Keras switch must come first
