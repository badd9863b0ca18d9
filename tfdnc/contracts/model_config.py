"""Sections of the config about the model and its training."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tfdnc.contracts.data_config import InputName
from tfdnc.contracts.section import NO_OPTIONS, Exponent, Finite, Options, Positive, Rate, Section, Share

_SETS_READ = {"records": 1, "rotating": 10}
"""Negative source -> sets of negatives in the records; the others draw their own."""


_NO_DRAWS = ("bce", "softmax", "in_cluster_softmax")
"""Losses that `train.draws` does not change."""


class ModelConfig(Section):
    """The user tower; `encoder` names an entry of the user-encoder registry."""

    encoder: str = "hadamard_per_position"
    dim: Positive = 64
    blocks: Positive = 2
    heads: Positive = 1
    max_length: Positive = 200
    dropout: Rate = 0.2
    feed_forward: Literal["relu", "swiglu"] = "swiglu"  # of the Transformer's blocks; swiglu: Shazeer 2020
    attention_gate: bool = False  # a gate on the output of attention (Qiu et al. 2025)
    distance_bias: bool = True  # a learned bias of attention by the distance of an item
    # Model of p(cluster): a separate `head`; the `partition` function of the items' scores, which sparse logs need, and
    # for which every request scores all items; or `history`, the untrained shares of the user's own events. auto:
    # partition, for catalogues that are large and not sparse, or very large, head (docs/training.md).
    intent: Literal["auto", "head", "partition", "history"] = "auto"
    intent_width: Positive = 4  # head: width of its hidden layer, as a multiple of dim
    experts: Positive = 4  # mmoe: self-attention experts; ple: shared experts
    interests: Positive = 4  # mind: at most this many; comirec: exactly this many
    item_features: bool = False  # item vectors include embeddings of the features in `data.items.features`
    times: bool = False  # tokens include the time from an item to the next event, or to the request
    popular_days: Annotated[Finite, Field(gt=0)] | None = None  # item_counts: the last days of training; null: all
    history_clusters: bool = False  # tokens include an embedding of the item's cluster
    inputs: tuple[InputName, ...] = ()  # of data.events, context and users, or exposures; the others cost nothing
    user_token: bool = False  # inputs of users are in a token of their own before the history, not in every token
    options: Options = NO_OPTIONS  # of a plug-in's encoder

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "ModelConfig":
        if self.dim % self.heads:
            raise ValueError(f"expected dim to be a multiple of heads, not {self.dim} of {self.heads}")
        return self


class TrainConfig(Section):
    """Training of the model; `loss` names an entry of the loss registry."""

    loss: str = "in_cluster_softmax"
    # Source of the negatives of `bce`, an entry of the registry of negative sources. online: drawn anew in every
    # epoch, like the expectation in Eq. 2 and 3; records: the first set of the records, in every epoch; rotating: set
    # epoch % `examples.negative_sets`, by default 10.
    negatives: str = "online"
    intent_weight: Finite = 1.0  # 0: no intent is learned, and p(cluster) is the share of the training events
    intent_items: Positive = 128  # partition: items drawn per step from a cluster with more
    # p(cluster) of the finished model: that of the `learned` intent, or of the untrained `history` or `prior` in its
    # place. auto: with `model.intent: auto` the one with the best lists on validation, else learned (docs/training.md).
    # `tfdnc run --final` sets the choice of the held-out run.
    served_intent: Literal["auto", "learned", "history", "prior"] = "auto"
    num_negatives: Positive = 256  # sampled_softmax, gbce: items drawn per step, or per cluster and step
    negative_exponent: Exponent = 0.0  # of the counts by which these are drawn; 0 is uniform
    # Source of the draws of the sampled softmaxes. pool: all items, or those of the cluster; batch: targets of
    # the step; mixed: half of them from each. All are corrected by the log of their probability. hard: pool, and for
    # each target the items nearest to it, which count once.
    draws: str = "pool"
    hard_from: Positive = 1  # draws hard: of the nearest items, the first rank and
    hard_to: Positive = 16  # the last one; a table of 4 bytes per item and rank
    hard_refresh: Positive = 1  # epochs after which the nearest items are searched again
    exposure_weight: Finite = 0.1  # exposure_softmax: of exposures above other items, beside targets above both
    calibration: Share = 0.75  # gbce: t of Petrov & Macdonald 2023; 0 is plain BCE
    epochs: Annotated[int, Field(ge=0)] = 48  # 0 for encoders that only count
    batch_tokens: Positive | Literal["auto"] = "auto"  # padded positions per step; auto: by the size of the log
    random_window: Share = 0.5  # share of epochs with a random window of a long sequence, not the last one
    hidden_times: Share = 0.1  # model.times: share of the windows without times, so that requests may lack them too
    hidden_inputs: Share = 0.1  # model.inputs: the same for each of them
    hidden_items: Rate = 0.1  # model.item_features: share of the items without their embedding in a step
    # Weight of each auxiliary objective, entries of their registry (docs/training.md). Any of them costs a second
    # encode, of the histories without `masked_items`, a share of the items.
    auxiliary: dict[str, Finite] = Field(default={})
    masked_items: Rate = 0.2
    # An entry of the registry of optimisers. adam: all rows of all variables in every step; rowwise_adam: of items and
    # users only the rows that a step reads; auto: adam, for large catalogues rowwise_adam (docs/training.md).
    optimizer: str = "auto"
    learning_rate: Annotated[Finite, Field(gt=0)] = 2e-3
    final_learning_rate: Share = 0.05  # share of `learning_rate` at the end of the cosine
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    beta_2: Share = 0.98
    stop_after: Positive | None = None  # epochs after which training ends, in the schedule of `epochs`; null: all
    epochs_from: str | None = None  # run that `stop_after` was found by; `tfdnc run --final` says it
    validate_every: Positive = 4  # epochs between validations; the best one is kept
    patience: Positive | None = 4  # validations in a row without a better one, after which training ends; null: never
    # Share below the best from which such a validation counts twice; 1: never.
    patience_drop: Annotated[float, Field(gt=0, le=1)] = 0.01
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the matrix products only
    initial: Path | None = None  # folder of a finished run, whose weights are the start; it decides the clusters too
    options: Options = NO_OPTIONS  # of a plug-in's loss

    @property
    def last_epoch(self) -> int:
        """Number of epochs after which training ends, unless it ends early."""
        return self.epochs if self.stop_after is None else self.stop_after

    @model_validator(mode="after")
    def _stop_is_in_the_schedule(self) -> "TrainConfig":
        if self.stop_after is not None and self.stop_after > self.epochs:
            raise ValueError(f"expected stop_after of at most epochs, {self.epochs}, got {self.stop_after}")
        return self

    @model_validator(mode="after")
    def _hard_draws_are_read(self) -> "TrainConfig":
        if self.hard_to < self.hard_from:
            raise ValueError(f"expected hard_to of at least hard_from, {self.hard_from}, got {self.hard_to}")
        if self.draws == "hard" and self.loss in _NO_DRAWS:
            raise ValueError(f"expected draws hard with a sampled softmax, got loss {self.loss}, which draws no items")
        return self

    @property
    def is_in_cluster(self) -> bool:
        """True for a loss in which a target competes with the items of its own cluster."""
        return self.loss.startswith("in_cluster")

    @property
    def reads_negatives(self) -> bool:
        """True for a loss with negatives by the sampler of `examples`; the others draw items, or score all."""
        return self.loss == "bce"

    @property
    def reads_exposures(self) -> bool:
        """True for a loss that reads the items that were shown with a target and passed over."""
        return self.loss.endswith("exposure_softmax")

    @property
    def negative_sets(self) -> int:
        """Sets of negatives that the training reads from the records, the default of `examples.negative_sets`."""
        return _SETS_READ.get(self.negatives, 0) if self.reads_negatives else 0
