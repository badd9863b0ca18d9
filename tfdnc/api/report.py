"""The report of an evaluation as typed data: a plain dict with declared keys and values."""

from typing import Any, TypedDict

Figures = dict[str, float]
"""Figures of lists by name: `recall@m`, `ndcg@m`, `coverage@m`, `entropy@m`, `gini@m`, `item_coverage@m`, `ild@m`."""


class Tuned(TypedDict):
    """The quota whose alpha was picked on validation."""

    alpha: float
    objective: str  # name of the figure that picked it
    validation: float  # its value there
    figures: Figures  # figures of the test set


class Report(TypedDict):
    """The content of `report.json`; `tfdnc.evaluation.report.evaluate` documents the figures."""

    users: int  # number of users with a test target
    seen: str  # `data.seen`: "exclude", or "allow" where lists may hold items of the history
    seen_targets: float  # share of the targets that the user had seen before
    new_targets: dict[str, Any] | None  # `targets`, `recall@m` and `within_cluster` of targets that are new to the user
    repeated_targets: dict[str, Any] | None  # the same of targets that the user had seen before
    judged_by: str | None  # source of the clusters behind the figures; None with one cluster
    merge_method: str
    merge: Figures  # figures of the configured merge
    without_times: Figures | None  # figures of requests without times; None for a model that reads none
    without_inputs: dict[str, Figures]  # of requests without the inputs of `event`, `request` or `user`
    by_target: list[dict[str, Any]] | None  # with data.targets: `value`, `targets`, `recall@m`
    alpha_curve: list[Figures]  # figures of quota(alpha), each with `alpha`
    joint_curve: list[Figures]  # figures of joint(alpha), each with `alpha`
    floor_curve: list[Figures]  # figures of lists with at least `floor` results of every cluster
    tuned: Tuned | None
    within_cluster: Figures  # `recall@m` with the target's cluster given
    out_of_cluster: Figures  # `recall@m` among the target and the items of all other clusters
    within_cluster_by_cluster: list[dict[str, Any]]  # `cluster`, `name`, `targets`, `recall@m`
    intent: Figures  # accuracy and log-likelihood of the intent that serves; {} with one cluster
    intent_check: dict[str, Any] | None  # on validation, the learned intent beside untrained ones; None without one
    calibration: dict[str, Any] | None  # calibration of the intent model
    popularity: Figures  # figures of lists of the most popular unseen items
    cold_targets: dict[str, Any] | None  # `targets`, `recall@m` and `within_cluster` of targets that are cold items
    filtered: dict[str, Any] | None  # figures of lists under `evaluate.where`, `minimum`, `maximum`; None without
