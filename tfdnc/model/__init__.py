"""The retriever: user tower with task conditioning, item tower, intent head, and the losses that train them."""
