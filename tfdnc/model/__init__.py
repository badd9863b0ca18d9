"""The retriever: user encoders, item embeddings, intent head, and the losses that train them."""

import tfdnc.backend  # noqa: F401  TFRS imports TensorFlow, and the Keras switch must come first
