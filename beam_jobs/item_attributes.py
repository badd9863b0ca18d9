"""Attributes of items, by which requests filter: columns of the item file, read for the items of a bundle."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from beam_jobs.item_accounts import ADDED, DESCRIBED, ItemAccounts
from beam_jobs.item_details import DetailsFile, describe_file, find_details, find_new_details, read_rows
from beam_jobs.item_features import split_values
from beam_jobs.item_rows import Value
from tfdnc.contracts.attributes import Attribute, AttributeKind
from tfdnc.contracts.data_config import DataConfig, FeatureKind, ItemFile
from tfdnc.contracts.errors import UserError

_BOOLEANS = {"true": "true", "1": "true", "1.0": "true", "yes": "true"} | {
    "false": "false",
    "0": "false",
    "0.0": "false",
    "no": "false",
}


def read_attributes(
    config: DataConfig, kinds: Mapping[str, AttributeKind], item_ids: Sequence[str], file: str | None = None
) -> list[Attribute]:
    """Reads the columns of the item file that are attributes.

    The first of several rows of an item counts; malformed rows are left out, as `prepare` sets them aside. An item
    that the file does not describe has no values.

    Args:
        config: location and format of the item file, in its own section or beside the log.
        kinds: kinds of the columns by name.
        item_ids: [N] ids of the items, in order of the item table.
        file: path of a newer item file of the same format; None for that of the config.

    Raises:
        UserError: there is no item file, it cannot be read, describes none of the items or lacks a column, or a value
            is not of the kind of its column.
    """
    details = find_attributes(config, kinds, file)
    accounts = ItemAccounts()
    rows = read_rows(details, list(item_ids), False, accounts)
    if item_ids and not accounts.counts[DESCRIBED] + accounts.counts[ADDED]:
        raise UserError(
            f"Expected items of this run, such as {item_ids[0]!r}, in {details.file.path}, found none of them; it is "
            "the item file of another log."
        )
    first = len(details.named)
    places = {name: first + place for place, name in enumerate(details.features)}
    return [
        _attribute(name, kind, [None if row is None else row[places[name]] for row in rows.values()], details)
        for name, kind in kinds.items()
    ]


def find_attributes(config: DataConfig, kinds: Mapping[str, AttributeKind], file: str | None = None) -> DetailsFile:
    """Returns the item file, or a newer `file` like it, with the columns of attributes.

    Raises:
        UserError: there is none, or it lacks a column.
    """
    details = find_details(config) if file is None else find_new_details(config, file)
    if details is None:
        raise UserError("Expected an item file with export.attributes, found none; name one in data.items.")
    columns: dict[str, FeatureKind] = {name: "value" if kind == "boolean" else kind for name, kind in kinds.items()}
    key = "export.attributes"
    if config.items is not None:
        items = config.items.model_copy(update={"title": None, "categories": None, "features": columns})
        return describe_file(details.file, items, key)
    if config.format == "kuairand":
        videos = ItemFile(path=details.file.path, item="video_id", features=columns, separator=details.separator)
        return describe_file(details.file, videos, key)
    for name in kinds:
        if name not in details.features:
            raise UserError(
                f"Expected columns of {details.file.path} in {key}, {' and '.join(details.features)}, got {name!r}."
            )
    return details


def _attribute(name: str, kind: AttributeKind, values: list[Value | None], details: DetailsFile) -> Attribute:
    source = details.file.path
    if kind == "number":
        return Attribute(name, kind, numbers=np.array([_number(value, name, source) for value in values]))
    separator = details.separator if kind == "values" else None
    texts = [() if value is None else tuple(dict.fromkeys(split_values(value, separator))) for value in values]
    if kind == "boolean":
        texts = [tuple(_boolean(text, name, source) for text in own) for own in texts]
    several = next((own for own in texts if len(own) > 1), None) if kind != "values" else None
    if several:
        raise UserError(
            f"Expected one value per item in column {name!r} of {source}, found {list(several)}; set "
            f"export.attributes.{name} to values."
        )
    return Attribute(name, kind, texts)


def _boolean(text: str, name: str, source: str) -> str:
    found = _BOOLEANS.get(text.lower())
    if found is None:
        raise UserError(
            f"Expected true or false, yes or no, 1 or 0 in column {name!r} of {source}, found {text!r}; set "
            f"export.attributes.{name} to value."
        )
    return found


def _number(value: Value | None, name: str, source: str) -> float:
    """Returns the number, NaN for a blank."""
    try:
        if isinstance(value, list):
            raise ValueError("a list")
        number = float((value or "").strip() or "nan")
    except ValueError as error:
        raise UserError(
            f"Expected numbers in column {name!r} of {source}, found {value!r}; set export.attributes.{name} to value "
            "or values."
        ) from error
    return number if math.isfinite(number) else math.nan
