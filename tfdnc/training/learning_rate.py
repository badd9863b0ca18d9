"""Learning rate: linear warm-up, then a cosine down to a share of the peak."""

import math

from tfdnc.backend import keras, tf


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate by step.

    Args:
        peak: rate after the warm-up.
        warmup_steps: steps of linear growth from 0.
        total_steps: the step at which the cosine reaches `final_share * peak`; it stays there afterwards.
        final_share: in [0, 1].
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, final_share: float) -> None:
        self._settings = {
            "peak": peak,
            "warmup_steps": warmup_steps,
            "total_steps": total_steps,
            "final_share": final_share,
        }

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the scalar float32 rate of `step`."""
        peak, warmup, total, final = self._settings.values()
        step = tf.cast(step, tf.float32)
        progress = tf.clip_by_value((step - warmup) / max(1, total - warmup), 0.0, 1.0)
        cosine = final + (1.0 - final) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return peak * cosine * tf.minimum(1.0, (step + 1.0) / max(1, warmup))

    def get_config(self) -> dict[str, float]:
        """Returns the constructor's arguments."""
        return dict(self._settings)
