"""Divide-and-conquer embedding-based retrieval for recommender systems (Zhang et al., WWW'23).

Importing this package is cheap: TensorFlow is imported only by the modules that need it, through `tfdnc.backend`.
"""

__version__ = "0.1.0"
