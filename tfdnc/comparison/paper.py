"""Figures that the paper reports, to be shown beside our own: Zhang et al., WWW'23 (arXiv 2302.02657).

The paper's ML-1M has 3,706 items, the file of the published full-ranking results has 3,416, and its baselines are
weaker than those results. So compare figures inside a column, not ours with theirs. Its KuaiRand is KuaiRand-27K, whose
figures do not apply to KuaiRand-Pure.
"""

from collections.abc import Mapping

SOURCE = "Zhang et al., WWW'23"

_ML_1M = "ML-1M"
_KUAIRAND_27K = "KuaiRand-27K"

_DATA_SETS = {"ml1m": _ML_1M, "ml1m_large": _ML_1M, "ml1m_equal_cpu": _ML_1M, "kuairand27k": _KUAIRAND_27K}
"""First part of a config's name -> the paper's data set; for other names the paper has no figures."""

_METHODS = {
    "dnc_plain": "dnc",
    "dnc_literal": "dnc",
    "dnc_literal_bce": "dnc",
    "dnc_bce": "dnc",
    "dnc_naive_bce": "dnc_naive",
    "dnc_mmoe_bce": "dnc_mmoe",
}
"""Our names of the paper's methods, in all variants. `_bce` is the paper's loss, `dnc_literal` its conditioning, and
`dnc_plain` reads items only, as the paper's model does; the other variants are ours."""

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Data set -> method -> name of a figure -> its value."""

LISTS: Figures = {
    _ML_1M: {
        "mf": {"recall@20": 0.120, "recall@50": 0.231},
        "sasrec": {"recall@20": 0.183, "recall@50": 0.337},
        "sasrec_plus": {"recall@20": 0.220, "recall@50": 0.367},
        "mind": {"recall@20": 0.186, "recall@50": 0.343},
        "comirec": {"recall@20": 0.192, "recall@50": 0.341},
        "dnc": {"recall@20": 0.234, "recall@50": 0.375},
        "dnc_naive": {"recall@20": 0.221, "recall@50": 0.366},
        "dnc_mmoe": {"recall@20": 0.224, "recall@50": 0.371},
    },
    _KUAIRAND_27K: {
        "mf": {"recall@500": 0.086, "recall@1000": 0.132},
        "sasrec": {"recall@500": 0.178, "recall@1000": 0.254},
        "sasrec_plus": {"recall@500": 0.200, "recall@1000": 0.284},
        "mind": {"recall@500": 0.138, "recall@1000": 0.201},
        "comirec": {"recall@500": 0.188, "recall@1000": 0.269},
        "dnc": {"recall@500": 0.254, "recall@1000": 0.359},
        "dnc_naive": {"recall@500": 0.245, "recall@1000": 0.344},
        "dnc_mmoe": {"recall@500": 0.239, "recall@1000": 0.341},
    },
}
"""Table 2: recall of the whole list, by data set and method."""

WITHIN_CLUSTER: Figures = {
    _ML_1M: {
        "sasrec": {"recall@5": 0.191, "recall@20": 0.424, "recall@50": 0.639},
        "dnc_naive": {"recall@5": 0.217, "recall@20": 0.463, "recall@50": 0.674},
        "dnc_mmoe": {"recall@5": 0.223, "recall@20": 0.482, "recall@50": 0.682},
        "dnc": {"recall@5": 0.235, "recall@20": 0.483, "recall@50": 0.682},
    },
    _KUAIRAND_27K: {
        "sasrec": {"recall@100": 0.172, "recall@500": 0.399, "recall@1000": 0.543},
        "dnc_naive": {"recall@100": 0.228, "recall@500": 0.502, "recall@1000": 0.658},
        "dnc_mmoe": {"recall@100": 0.218, "recall@500": 0.496, "recall@1000": 0.655},
        "dnc": {"recall@100": 0.237, "recall@500": 0.522, "recall@1000": 0.682},
    },
}
"""Table 3: recall among the items of the target's cluster, by data set and method."""


def quoted(table: Figures, config_name: str) -> Mapping[str, float]:
    """Returns the paper's figures for a config called DATASET-METHOD; none where the paper has no such row."""
    data_set, _, method = config_name.rpartition("-")
    return table.get(_DATA_SETS.get(data_set, ""), {}).get(_METHODS.get(method, method), {})
