"""Import of TensorFlow for training and export, with Keras 2 switched on before it.

TFRS 0.7.7 works with Keras 2 only. TensorFlow reads the switch once, when it is imported, so all code imports it here.
"""

import os
import sys

from tfdnc.contracts.errors import UserError

if "tensorflow" not in sys.modules:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

if os.environ.get("TF_USE_LEGACY_KERAS") not in ("1", "true", "True"):
    raise UserError(
        "Expected Keras 2 behind tf.keras, but TensorFlow was imported before tfdnc without the switch. "
        "Set TF_USE_LEGACY_KERAS=1 in the environment, or import tfdnc.backend first."
    )

keras = tf.keras

__all__ = ["keras", "tf"]
