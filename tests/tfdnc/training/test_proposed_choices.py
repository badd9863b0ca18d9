"""Choices that readers of the paper proposed: such a training starts warm, and a killed one goes on."""

import numpy as np

from tests.tfdnc.training.small_runs import NEW, OLD, fit, killed_in_the_second_epoch, make_config

AUXILIARY = {"canonical_correlation": 0.1, "masked_reconstruction": 0.5}


def proposed(**train):
    return make_config(encoder="target_attention", model={"history_clusters": True}, auxiliary=AUXILIARY, **train)


def test_a_training_starts_warm_and_goes_on_after_a_kill(tmp_path):
    old = fit(tmp_path / "old", OLD, proposed())
    assert {"history_clusters/rows", "encoder/task_embeddings"} <= old.variables.keys()
    warm = fit(tmp_path / "warm", NEW, proposed(initial=tmp_path / "old", epochs=0))
    assert warm.variables.keys() == old.variables.keys()
    for name, value in old.variables.items():
        np.testing.assert_array_equal(warm.variables[name], value)

    config = proposed(initial=tmp_path / "old", epochs=3)
    whole = fit(tmp_path / "whole", NEW, config)
    killed_in_the_second_epoch(tmp_path / "killed", NEW, config)
    resumed = fit(tmp_path / "killed", NEW, config)
    np.testing.assert_array_equal(resumed.embeddings, whole.embeddings)
    for name, value in whole.variables.items():
        np.testing.assert_array_equal(resumed.variables[name], value)
    assert any((whole.variables[name] != old.variables[name]).any() for name in old.variables)
