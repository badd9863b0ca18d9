"""Values of categories in requests: text, or whole numbers from 0 up -> the numbers that windows have."""

from collections.abc import Sequence

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.features import Feature, is_of_log


class ValueNumbers(tf.Module):
    """Hash tables of a bundle from the values of inputs to their numbers.

    Args:
        features: inputs that the model reads, with their values.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        known = {feature.name: feature.values for feature in features if is_of_log(feature)}
        self._tables = {name: _table(values) for name, values in known.items()}

    def __call__(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        """Returns the values of an input as windows have them; 0 for an unknown one of a category."""
        if is_of_log(feature):
            return self._tables[feature.name].lookup(values)
        if feature.form.is_category:
            return tf.where((values >= 0) & (values < len(feature.values)), values + 1, 0)
        return values


def _table(values: Sequence[str]) -> tf.lookup.StaticHashTable:
    numbers = tf.lookup.KeyValueTensorInitializer(
        tf.constant(np.array(values, object), tf.string), tf.range(1, len(values) + 1, dtype=tf.int32)
    )
    return tf.lookup.StaticHashTable(numbers, default_value=0)
