"""The sentence of a check on conditions or bounds that failed outside of a graph, without TensorFlow's own words."""

import ast
import re

from tfdnc.backend import tf


def sentence_of(error: tf.errors.InvalidArgumentError) -> str:
    """Returns the sentence that the check was given; TensorFlow shows it as the text of Python bytes."""
    shown = re.search(r"Summarized data: (b.*)", error.message, re.DOTALL)
    return ast.literal_eval(shown[1]).decode() if shown else error.message.splitlines()[0]
