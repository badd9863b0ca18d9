"""Declarations of inputs in the data section of the config: their kinds, names and targets."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

InputName = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$", max_length=64)]
"""Name of a declared input: that of its column in the log, and a part of the name of its tensor in requests."""

EventKind = Literal["value", "number"]
"""Kind of the values of a column of the log, or of the file of users; `value` is a category."""

ContextKind = Literal["value", "number", "hour_of_day", "day_of_week"]
"""Kind of an input that is known when a request is made; the last two are computed from the times of the log."""

TargetValues = Annotated[dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
"""Weight in the loss by value of the events that are targets."""


def _as_texts(values: object) -> object:
    """Values of a list as a log of text has them: YAML reads `0` and `true` as a number and a truth value."""
    if not isinstance(values, list | tuple):
        return values
    return tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in values)


Exposures = Annotated[
    dict[InputName, Annotated[tuple[str, ...], BeforeValidator(_as_texts), Field(min_length=1)]], Field(max_length=1)
]
"""Column of the log, and its values in the rows that are exposures and no events."""


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("expected the name of a time zone, such as Europe/Berlin") from error
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""Name of a time zone of the IANA data base."""


def weights_of_values(targets: object) -> object:
    """Returns `data.targets` with the weight 1 for every value of a list."""
    if not isinstance(targets, dict):
        return targets
    return {name: dict.fromkeys(of, 1) if isinstance(of, list | tuple) else of for name, of in targets.items()}


USER_FEATURES: dict[str, dict[str, EventKind]] = {
    "movielens": {"gender": "value", "age": "value", "occupation": "value"},
    "kuairand": {
        "user_active_degree": "value",
        "is_video_author": "value",
        "follow_user_num_range": "value",
        "fans_user_num_range": "value",
        "friend_user_num_range": "value",
        "register_days_range": "value",
    },
}
"""Columns of the files of users that formats of logs bring; `data.users.features` may name others of them."""


def refuse_names(of_log: Mapping[str, Iterable[str]], of_users: Iterable[str], taken: set[str | None]) -> None:
    """Raises a `ValueError` if two inputs have one name, or one has that of something else.

    Args:
        of_log: names by key of the data section.
        of_users: names of the features of users.
        taken: columns of the log that are no inputs.
    """
    owners: dict[str, str] = {}
    sections = {**of_log, "users.features": of_users}
    for section, name in ((section, name) for section, names in sections.items() for name in names):
        if section in of_log and name in taken:
            raise ValueError(f"expected columns in {section} that are not those of user, item and time, got {name}")
        if name in {"time", "weight", "times", "exposures"}:
            raise ValueError(f"expected another name than {name} in {section}, which inputs of their own have")
        if section in of_log and name.startswith(("history_", "request_", "user_")):
            raise ValueError(f"expected another name than {name} in {section}, whose beginning says what it is of")
        if owners.setdefault(name, section) != section:
            raise ValueError(f"expected {name} in one of {owners[name]} and {section}, found it in both: rename one")


def refuse_targets(targets: Iterable[str], events: Mapping[str, str]) -> None:
    """Raises a `ValueError` unless `data.targets` names one category of events."""
    names = list(targets)
    if len(names) > 1 or any(events.get(name) != "value" for name in names):
        raise ValueError(
            f"expected targets to name one key of events of kind value, got {', '.join(names)}; declare it, such as "
            f"`events: {{{names[0]}: value}}`"
        )


def refuse_exposures(
    exposures: Mapping[str, tuple[str, ...]],
    targets: Mapping[str, Mapping[str, float]],
    kinds: Mapping[str, str],
    taken: set[str | None],
) -> None:
    """Raises a `ValueError` unless `data.exposures` names a column of categories, and no value of a target.

    Args:
        exposures: values of exposures by column.
        targets: weights of targets by column and value.
        kinds: of the inputs of events and of the context, by name.
        taken: columns of the log that are no inputs.
    """
    for name, values in exposures.items():
        if name in taken:
            raise ValueError(f"expected a column in exposures that is not that of user, item or time, got {name}")
        if kinds.get(name, "value") != "value":
            raise ValueError(f"expected a column of kind value in exposures, got {name} of kind {kinds[name]}")
        if both := sorted({*values} & {*targets.get(name, {})}):
            raise ValueError(f"expected other values in exposures than in targets, found {', '.join(both)} in both")
