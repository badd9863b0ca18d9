"""Headlines of stations: one line about the figures of each, for the screen and the log."""

from typing import Any

from tfdnc.training.served_intent import SERVED_INTENT

Figures = dict[str, Any]


def generated(figures: Figures) -> str:
    """Returns the line of the generate station."""
    return f"{figures['events']:,} events of {figures['users']:,} users on {figures['items']:,} items"


def prepared(figures: Figures) -> str:
    """Returns the line of the prepare station: kept events, and dropped rows by reason."""
    from beam_jobs.item_accounts import headline

    kept = f"{figures['events']:,} events of {figures['users']:,} users on {figures['items']:,} items kept"
    # Manifests of earlier versions lack the entries that are read with `get`.
    if days := figures.get("days"):
        kept += f", {days[0]} to {days[1]}"
    counts = {"malformed": sum(figures["rows_malformed"].values())}
    rules = {rule: count for rule, count in figures["rows_filtered"].items() if count}
    by_rule = ", ".join(f"{count:,} by {rule}" for rule, count in rules.items())
    counts |= {f"filtered ({by_rule})": sum(rules.values())}
    gone = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    kept += f"; of {figures['rows_read']:,} rows {gone}" if gone else ""
    kept += _by_time(figures["split"])
    if shown := figures.get("exposures"):
        kept += f"; {shown['rows']:,} exposures, {shown['kept']:,} kept beside events"
    if joined := figures.get("lines_joined"):
        kept += f"; {joined:,} lines go on with a row inside quotes"
    if kept_reads := figures.get("kept_reads"):
        megabytes = f"{kept_reads['bytes'] / 1e6:,.0f} MB kept of them"
        kept += f"; {kept_reads['reused']} of {kept_reads['files']} files not read again, {megabytes}"
    if items := figures.get("item_file"):
        kept += f"; {headline(items)}"
    if users := figures.get("user_file"):
        kept += f"; {users['users']:,} users, {users['described']:,} described"
    return kept


def _by_time(split: dict[str, Any]) -> str:
    """Returns the users of a split by time whom no figure counts, and the targets that no training event knows."""
    test = split["test"]
    if "without_history" not in test:  # another split, or an earlier version
        return ""
    return (
        f"; {test['users']:,} test targets, {test['cold']:,} of them cold; {test['without_history']:,} users of the "
        "test window without history left out"
    )


def examples(figures: Figures) -> str:
    """Returns the line of the examples station."""
    positions, negatives = f"{figures['positions']:,} training positions", figures["negatives"]
    if not negatives["drawn"] + negatives["empty"]:
        return f"{positions}, no negatives recorded: none are read"
    return f"{positions}, {negatives['empty']:,} negatives left empty"


def trained(figures: Figures) -> str:
    """Returns the line of the train station, with the intent that serves where it is not the learned one."""
    choice = figures.get(SERVED_INTENT) or {}  # manifests of earlier versions have none
    return _epochs(figures) + (f"; {choice['text']}" if choice.get("text") else "")


def _epochs(figures: Figures) -> str:
    parameters, epochs, best = f"{figures['parameters']:,} parameters", figures["epochs"], figures["best_epoch"]
    if figures.get("stopped_early"):  # manifests of earlier versions lack it
        return f"{parameters}, stopped after epoch {epochs}: no better for {epochs - best} epochs, best was {best}"
    if not any(name.startswith("val_") for name in figures):
        return f"{parameters}, {epochs} epochs on every event: nothing is held out, so there are no test figures"
    return f"{parameters}, best epoch {best} of {epochs}"


def clusters(figures: Figures) -> str:
    """Returns the line of the cluster and judge stations."""
    sizes = f"{figures['clusters']} clusters of {figures['smallest']:,} to {figures['largest']:,} items"
    sizes += f", {figures['cold_items']:,} items cold" if figures["cold_items"] else ""
    # `category` alone has items without category, `previous` alone has known items.
    sizes += f", {n:,} items without category" if (n := figures.get("items_without_category")) else ""
    sizes += f", {figures['known_items']:,} items keep theirs" if "known_items" in figures else ""
    sizes += f"; {reason}" if (reason := figures.get("num_clusters_reason")) else ""  # the config left K open
    observed, chance = figures["next_in_cluster"], figures["next_by_chance"]
    return f"{sizes}; next item in the same cluster {observed:.3f} (by chance {chance:.3f})"


def evaluated(figures: Figures) -> str:
    """Returns the line of the evaluate station: recalls of the configured merge."""
    recalls = {name: value for name, value in figures["merge"].items() if name.startswith("recall")}
    return ", ".join(f"{name} {value:.4f}" for name, value in recalls.items())


def exported(figures: Figures) -> str:
    """Returns the line of the export station."""
    return f"version {figures['version']}, {figures['megabytes']:.1f} MB, index {figures['index']}"
