"""Refresh in a simulation: new items of the item file join a model, as in `operations.refresh`, without a bundle."""

from collections.abc import Set

from beam_jobs.item_accounts import ItemAccounts
from beam_jobs.item_details import Details, find_details, read_catalogue
from beam_jobs.item_features import ranges_of
from tfdnc.contracts import schema
from tfdnc.contracts.station_names import StationName
from tfdnc.operations.renewed_tower import known_features, read_content
from tfdnc.operations.simulate.models import Model
from tfdnc.operations.version_items import read_version_items, renew
from tfdnc.pipeline import outputs
from tfdnc.pipeline.dependencies import resolve_data


def with_items(model: Model, known: Set[str]) -> Model:
    """Returns the model with these items of its item file, and with all that it had.

    Without an item file, or without `model.item_features`, it is the same model: nothing is known of a new item.

    Args:
        model: the model of the day.
        known: ids of the items that may join; others are in the file too.
    """
    from tfdnc.training.checkpoint import load_tower

    details = find_details(resolve_data(model.config, model.run))
    if details is None or not model.config.model.item_features:
        return model
    trained = outputs.item_table(model.run)
    tower = load_tower(model.config, trained, model.run / StationName.TRAIN.folder)
    before = model.renewed
    if before is None:
        before = read_version_items(model.run, model.run / StationName.CLUSTER.folder / schema.ITEMS)
    ranges = ranges_of(trained.features or (), details.features)
    found = _only(read_catalogue(details, before["item_id"].to_pylist(), ranges, ItemAccounts()), known)
    content = read_content(tower, details, before, found, trained, model.run)
    renewed, _ = renew(before, found, known_features(tower), keep_missing=True, content=content)
    return model._replace(renewed=renewed, content=content)


def _only(found: Details, known: Set[str]) -> Details:
    """Returns the descriptions of the known items."""
    rows = [row for row, item_id in enumerate(found.item_ids) if item_id in known]
    return Details(
        item_ids=[found.item_ids[row] for row in rows],
        titles=[found.titles[row] for row in rows],
        categories=[found.categories[row] for row in rows],
        features=[found.features[row] for row in rows],
    )
