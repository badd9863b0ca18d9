"""The hand-written training steps compute what the product's do: otherwise their times compare nothing."""

import numpy as np
import pytest

from developer_benchmarks.training_step import METHODS, HandWritten, make_method
from tfdnc.backend import tf


@pytest.mark.parametrize("name", METHODS)
def test_both_give_the_same_losses_step_by_step(name):
    config, model, batches = make_method(name, users=6, events=30, items=50, precision="float32")
    by_hand = HandWritten(model, config, batches)
    ours = tf.function(model.train_step)
    [batch] = batches.epoch(0)
    batch = {key: tf.constant(values) for key, values in batch.items()}

    def our_loss():
        model.reset_metrics()  # or it would be the mean over all steps so far
        return float(ours(batch)["loss"])

    losses = [(our_loss(), float(by_hand.step(batch))) for _ in range(6)]
    np.testing.assert_allclose(*np.transpose(losses), rtol=1e-5)
    assert losses[-1][0] < losses[0][0]
