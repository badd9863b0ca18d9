"""Export of a trained retriever as a bundle that TF Serving loads."""

from tfdnc import backend  # noqa: F401  first: TFRS and the serving protos import TensorFlow by themselves
