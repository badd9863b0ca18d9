"""Accounts of the rows of a log: figures, errors and warnings of the first job."""

import logging
from collections.abc import Iterable
from typing import Any

from beam_jobs.event_rules import FILTERED, ROUND, rules_of
from beam_jobs.exposures import exposure_figures
from beam_jobs.files import exists, join, open_file
from beam_jobs.logs.log_files import Log
from beam_jobs.logs.log_rows import Rows
from beam_jobs.logs.quoted_text import advice_on
from beam_jobs.pipeline import add_counts
from beam_jobs.repetitions import repetition_figures
from beam_jobs.splits import without_history
from beam_jobs.twin_ids import twins_of
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.times import days_of

_log = logging.getLogger(__name__)

_MALFORMED = "malformed: "  # prefix of counts by reason
_EXAMPLES = 3  # number of malformed rows in an error message


def count_rows(rows: Rows) -> dict[str, int]:
    """Returns the counts of one block: rows read, malformed rows by reason, and filtered rows by rule."""
    reasons = [{_MALFORMED + reason: 1} for _, _, reason in rows.malformed]
    filtered = {FILTERED + rule: count for rule, count in rows.filtered.items()}
    joined = {"lines_joined": rows.lines_joined} if rows.lines_joined else {}
    return add_counts([{"rows_read": rows.num_rows}, joined, *reasons, filtered])


def figures_of(result: dict[str, Any], config: DataConfig, log: Log) -> dict[str, Any]:
    """Returns the figures of the job from the sum of all counts; see `sequences.prepare`."""
    malformed = {name.removeprefix(_MALFORMED): n for name, n in result.items() if name.startswith(_MALFORMED)}
    rounds = [result[f"{ROUND}{number}"] for number in range(1, config.filter_rounds + 1)]
    targets = ("validation", "test")
    return {
        "rows_read": result.get("rows_read", 0),
        "lines_joined": result.get("lines_joined", 0),
        "rows_malformed": malformed,
        "rows_filtered": {rule: result.get(FILTERED + rule, 0) for rule in (*log.rules, *rules_of(config))},
        "filter_rounds": {
            "changed": sum(left_out > 0 for left_out in rounds),
            "converged": result["events of the rarest item"] >= config.min_item_events,
        },
        "twin_ids": twins_of(result),
        "users": result["users"],
        "items": result["items"],
        "events": result["events"],
        "split": {
            "train_events": result["train_events"],
            **{kind: _targets_of(kind, result) for kind in targets},
        },
        "times": result["times"],
        "days": result["times"] and days_of(result["times"], config.ticks_per_second),
        "split_sha256": result["split_sha256"],
        **repetition_figures(result),
        **exposure_figures(result, config),
    }


def _targets_of(kind: str, result: dict[str, Any]) -> dict[str, int]:
    """Returns the figures of one kind of target, see `sequences.prepare`."""
    figures = {"users": result[f"{kind} targets"], "cold": result[f"{kind} targets that are cold"]}
    new = result.get(without_history(kind))
    return figures if new is None else figures | {"without_history": new}


def refuse_malformed(figures: dict[str, Any], config: DataConfig, log: Log, output: str) -> None:
    """Raises a `UserError` with examples if there were no rows, or too many malformed ones."""
    read, malformed = figures["rows_read"], figures["rows_malformed"]
    if not read:
        names = "" if log.source.endswith(log.names[0]) else f" ({', '.join(log.names)})"
        raise UserError(f"Expected events in {log.source}{names}, found no rows.")
    advice = "Mend the log, check data.columns and data.time_unit (iso is for dates as text)"
    dead_letters = first_dead_letters(output, log.names) if malformed else []
    refuse_too_many_malformed(log.source, malformed, read, config, advice, "data.quotes", dead_letters)


def refuse_too_many_malformed(
    source: str,
    malformed: dict[str, int],
    rows: int,
    config: DataConfig,
    advice: str,
    quotes_key: str,
    dead_letters: list[str],
) -> None:
    """Raises a `UserError` for a file, or a log, with a larger share of malformed rows than `data.max_malformed_share`.

    Args:
        source: name of the file or the log.
        malformed: number of malformed rows by reason.
        rows: number of all rows.
        config: holds the allowed share.
        advice: what the user can do.
        quotes_key: config key of the quotes.
        dead_letters: the first malformed rows, as JSON lines.
    """
    reasons, count = ", ".join(f"{reason}: {count}" for reason, count in malformed.items()), sum(malformed.values())
    if count <= config.max_malformed_share * rows:
        return
    raise UserError(
        f"Expected at most {config.max_malformed_share:.2%} malformed rows in {source}, found {count / rows:.2%} "
        f"({count} of {rows}; {reasons}). {advice}, or raise data.max_malformed_share."
        f"{advice_on(malformed, quotes_key)} The first ones:\n{''.join(dead_letters).rstrip()}"
    )


def first_dead_letters(output: str, names: Iterable[str]) -> list[str]:
    """Returns the first malformed rows of the files `names`, from their dead letters, as JSON lines."""
    paths = (join(output, schema.DEAD_LETTER, f"{name}.jsonl") for name in names)
    return [line for path in paths if exists(path) for line in _first_lines(path)][:_EXAMPLES]


def _first_lines(path: str) -> list[str]:
    with open_file(path) as stream:
        return [line.decode() for line, _ in zip(stream, range(_EXAMPLES), strict=False)]


def refuse_losses(result: dict[str, Any], figures: dict[str, Any], config: DataConfig) -> None:
    """Raises a `RuntimeError` if rows, events or users were lost, as on some runners (see `pipeline`)."""
    events, users = figures["events"], figures["users"]
    left_out = sum(figures["rows_malformed"].values()) + sum(figures["rows_filtered"].values())
    shown = figures.get("exposures", {"rows": 0, "kept": 0, "left_out": {}})
    expected_and_found = {
        "rows": (figures["rows_read"], events + left_out + shown["rows"]),
        "exposures": (shown["rows"], shown["kept"] + sum(shown["left_out"].values())),
        "written files": (config.num_shards, result["written: files"]),
        "written users": (users, result["written: users"]),
        "written events": (events, result["written: events"]),
        "events of the vocabulary": (events, result["events of the vocabulary"]),
        "users of the split": (users, result["users of the split"]),
    }
    for name, (expected, found) in expected_and_found.items():
        if expected != found:
            raise RuntimeError(
                f"Expected {expected} {name}, found {found}: the runner lost data on the way. Run again, with "
                "--runner=FnApiRunner --direct_running_mode=in_memory if another one was given."
            )


def refuse_nothing_left(figures: dict[str, Any], config: DataConfig, log: Log) -> None:
    """Raises a `UserError` with the counts if every user was left out."""
    if figures["users"]:
        return
    filtered = figures["rows_filtered"]
    not_counted = "".join(f"{filtered[rule]} left out by data.{config.format}.{rule}, " for rule in log.rules)
    not_counted += "".join(f"{filtered[rule]} left out by data.{rule}, " for rule in rules_of(config)[:-2])
    raise UserError(
        f"Expected users with at least {config.min_user_events} events in {log.source}, none is left: "
        f"{figures['rows_read']} rows read, {sum(figures['rows_malformed'].values())} malformed, {not_counted}"
        f"{filtered['min_item_events']} of items with fewer than data.min_item_events = {config.min_item_events} "
        f"events, {filtered['min_user_events']} of users with fewer than data.min_user_events = "
        f"{config.min_user_events}. Lower these limits or bring more data."
    )


def refuse_empty_split(figures: dict[str, Any], config: DataConfig) -> None:
    """Raises a `UserError` if there are no training events, or no validation or test targets."""
    split = figures["split"]
    validation, test = split["validation"]["users"], split["test"]["users"]
    if split["train_events"] and (config.split == "none" or (validation and test)):
        return
    raise UserError(
        f"Expected training events, and users with a validation and with a test target, by data.split = {config.split} "
        f"(validation from {config.validation_from}, test from {config.test_from}); of {figures['events']} events of "
        f"{figures['users']} users {split['train_events']} are training events, {validation} users have a validation "
        f"target and {test} a test target. Move data.validation_from and data.test_from to times inside the log."
    )


def warn_of_exposures(figures: dict[str, Any], config: DataConfig) -> None:
    """Logs a warning of kinds of `data.exposures` that the log lacks, or if no exposure counts.

    Each such kind may be a misspelt one; beside a known kind it would be lost in silence.
    """
    shown = figures.get("exposures")
    if shown is None:
        return
    if shown["kept"]:
        for name, values in config.exposures.items():
            if unknown := [kind for kind in values if not shown["kinds"][kind]]:
                _log.warning(
                    "No row of the log has %s %s of data.exposures. Is the spelling that of the log?",
                    name,
                    ", ".join(unknown),
                )
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in shown["left_out"].items() if count)
    _log.warning(
        "Of %d rows with a kind of data.exposures (%s) none counts%s: a model learns nothing from them.",
        shown["rows"],
        ", ".join(f"{name}: {', '.join(values)}" for name, values in config.exposures.items()),
        f" ({reasons})" if reasons else "",
    )


def warn_of_open_filter(figures: dict[str, Any], config: DataConfig) -> None:
    """Logs a warning if one more round than the configured ones would leave out further items."""
    if config.filter_rounds > 1 and not figures["filter_rounds"]["converged"]:
        _log.warning(
            "%d filter rounds were not enough: some items have fewer than data.min_item_events = %d events left. Raise "
            "data.filter_rounds.",
            config.filter_rounds,
            config.min_item_events,
        )
