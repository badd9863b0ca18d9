# %% [markdown]
# # An encoder of your own
#
# A module of yours can add a user encoder, and configs then choose it by its name: it is trained, measured, exported
# and served as those of tfdnc are. This page goes on in the folder of [Your own log in ten minutes](own_log.md), and
# `make docs` runs it as it stands. As a file it is [own_encoder.py](own_encoder.py).
#
# ## 1. The module
#
# An encoder has two methods. `training_states` gives a vector for each position of the training windows, from the
# items up to there. `user_vectors` gives the vectors that search for the items of a request. This one takes an
# average of the items, in which each weighs less than the next by a factor. With `half_life: 3` the fourth last item
# weighs half as much as the last.

# %%
with open("my_encoder.py", "w") as file:
    file.write('''"""A user is a mean of the items, in which older items weigh less."""

from tfdnc.backend import tf
from tfdnc.contracts.section import Section
from tfdnc.model.encoders.base import USER_ENCODERS, TrainingStates, UserEncoder, UserVectors, at_last


class Options(Section):
    half_life: float = 5.0  # items until a weight is halved


@USER_ENCODERS.register("fading_mean", options=Options)
class FadingMean(UserEncoder):
    """One vector per user, which searches every cluster."""

    def training_states(self, windows, stream):
        states = self._means(windows.tokens)
        return TrainingStates(states, windows.has_target, states)

    def user_vectors(self, histories):
        state = at_last(self._means(histories.tokens), histories.lengths)
        return UserVectors(state[:, None], state)

    def _means(self, tokens):
        """[B, L, D] -> at every position the weighted mean of what is there and before, [B, L, D]."""
        places = tf.range(tf.shape(tokens)[1])
        ages = tf.cast(places[:, None] - places[None], tf.float32)  # [L, L], negative for later items
        weights = tf.where(ages < 0, 0.0, 2.0 ** (-ages / Options(**self._config.options).half_life))
        return tf.einsum("ij,bjd->bid", weights / tf.reduce_sum(weights, 1, keepdims=True), tokens)
''')

# %% [markdown]
# ## 2. A config that names it
#
# `plugins` lists modules beside the config or on the Python path. `options` are checked by the class `Options`: an
# unknown key is an error before any station works.

# %%
with open("fading.yaml", "w") as file:
    file.write("""
extends: mine.yaml
name: fading
plugins: [my_encoder]
model: {encoder: fading_mean, options: {half_life: 3}}
""")

import tfdnc

try:
    tfdnc.run(tfdnc.load_config("fading.yaml", set=["model.options.halflife=3"]), runs="runs")
except tfdnc.UserError as error:
    print(error)

# %% [markdown]
# ## 3. Train it beside the first model
#
# `prepare`, `cluster` and `examples` are those of the first run: they are adopted, and only training and evaluation
# run. So both models see the same events, clusters and test items.

# %%
fading = tfdnc.run(tfdnc.load_config("fading.yaml"), until="evaluate", runs="runs")
mine = tfdnc.open_run("runs/mine")
assert fading.figures("prepare")["split_sha256"] == mine.figures("prepare")["split_sha256"]
for run in (mine, fading):
    parameters, recall = run.figures("train")["parameters"], run.report["merge"]["recall@20"]
    print(f"{run.folder.name:8} {parameters:6,} parameters, recall@20 {recall:.3f}")

# %% [markdown]
# A recall on 150 users has a standard error of about .04, so this log decides nothing. On yours, compare over seeds:
# `tfdnc compare mine.yaml fading.yaml --seeds 1 2 3`.
#
# ## 4. Look at its vectors

# %%
import numpy as np

tower = fading.tower()
number = {item_id: place + 1 for place, item_id in enumerate(fading.items.item_ids)}  # items are 1..N, 0 is padding
histories = np.array([[number["garden-1"], number["garden-2"]], [number["garden-2"], number["garden-1"]]], np.int32)
vectors, log_intent = tower.user_vectors(histories)
print(vectors.shape, log_intent.shape)  # [B, V, D], [B, K]
print("the order counts:", bool(np.abs(vectors[0] - vectors[1]).max() > 1e-4))

# %% [markdown]
# The source of the module is part of what `train` depends on: after an edit `train` runs again. A bundle holds the
# graph, so servers do not need the module. [From Python](../python.md#an-encoder-of-your-own) lists what else a
# module can add: losses, clusterers, merges, log formats.
