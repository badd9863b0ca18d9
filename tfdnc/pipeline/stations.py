"""The stations from a log to a bundle, in order, each with the code that does its work.

Heavy libraries are imported by the work of the stations that need them.
"""

from pathlib import Path
from typing import Any

from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig, dump_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline import dependencies, headlines, outputs
from tfdnc.pipeline.checked_export import export_checked
from tfdnc.pipeline.engine import Station, Workplace, finished_manifest, unfinished_folder
from tfdnc.pipeline.learned import LAST_LEARNED, last_learned
from tfdnc.pipeline.manifests import read_manifest


def _refuse_times_below_0(config: ExperimentConfig, prepared: dict[str, Any]) -> None:
    """Raises a `UserError` if the model reads times, and the log has some that a request cannot express."""
    first = prepared["times"][0]
    if config.model.times and first < 0:
        raise UserError(
            f"Expected times from 0 up in the log with model.times, found {first}: in a request a time below 0 says "
            "that it is unknown. Only differences count: add a constant to all times of the log, or set model.times: "
            "false."
        )


def _generate(place: Workplace) -> dict[str, Any]:
    from tfdnc.datasets.generate import generate_log

    assert place.config.generate is not None  # configs without the section have no such station
    return generate_log(place.config.generate, place.config.seed, place.output)


def _prepare(place: Workplace) -> dict[str, Any]:
    from beam_jobs.sequences import prepare

    data, kept = dependencies.resolve_data(place.config, place.run), dependencies.kept_reads(place.config, place.run)
    figures = prepare(data, place.output, kept=kept)
    _refuse_times_below_0(place.config, figures)
    return figures


def _cluster(place: Workplace) -> dict[str, Any]:
    from tfdnc.clustering import build_clusters

    return build_clusters(place.run / PREPARE.folder, place.config.cluster, place.config.seed, place.output)


def _judge(place: Workplace) -> dict[str, Any]:
    from tfdnc.clustering import build_clusters

    judge = dependencies.judge_config(place.config)
    return build_clusters(place.run / PREPARE.folder, judge, place.config.seed, place.output)


def _examples(place: Workplace) -> dict[str, Any]:
    from beam_jobs.examples import build_examples

    sequences = place.run / PREPARE.folder / schema.SEQUENCES
    item_table = place.run / CLUSTER.folder / schema.ITEMS
    config, data = place.config, place.config.data
    return build_examples(
        *(sequences, item_table, config.examples, config.seed, place.output),
        train_from=data.first_trained,
        allows_seen=data.allows_seen,
    )


def _train(place: Workplace) -> dict[str, Any]:
    from tfdnc.evaluation.served_intent import intent_choice
    from tfdnc.evaluation.validation import Validator, validation_objective
    from tfdnc.training.team import Team
    from tfdnc.training.train import train
    from tfdnc.training.workers import this_worker

    team = Team(this_worker())
    config, run = place.config, place.run
    _refuse_times_below_0(config, finished_manifest(PREPARE, run)["figures"])  # model.times may be new since then
    items = outputs.item_table(run)
    held_out = config.data.split != "none"
    validate = Validator(config, outputs.held_out_records(config, run, schema.VALIDATION)) if held_out else None
    records = outputs.training_records(config, run, team.worker)
    common = unfinished_folder(TRAIN, place.run)
    recent = outputs.popularity(config, run, items)
    objective = validation_objective(config)
    choose = intent_choice(config, objective, validate.by_intent if validate else None)
    figures = train(config, items, records, validate, objective, place.output, team, common, recent, choose)
    return figures | {LAST_LEARNED: last_learned(config, run)}


def _evaluate(place: Workplace) -> dict[str, Any]:
    from tfdnc.contracts.items import read_items
    from tfdnc.evaluation.plot import plot_alpha_curve
    from tfdnc.evaluation.report import evaluate, write_report
    from tfdnc.training.served_intent import read_served_intent

    config, run = place.config, place.run
    items = outputs.item_table(run)
    judge = read_items(run / JUDGE.folder) if config.evaluate.judge else None
    model = outputs.trained_tower(config, run, items)
    test, validation = (outputs.held_out_records(config, run, split) for split in (schema.TEST, schema.VALIDATION))
    attributes = outputs.attributes(config, run, items.item_ids) if config.evaluate.reads_attributes else []
    of_targets = outputs.target_values(config, run)
    served = read_served_intent(run / TRAIN.folder)
    parts = config, model, items, test, validation, judge
    report = evaluate(*parts, attributes=attributes, target_values=of_targets, served=served)
    write_report(report, place.output)
    plot_alpha_curve(report, place.output)
    return report


def _export(place: Workplace) -> dict[str, Any]:
    from tfdnc.export.cold_start import cold_start_vectors

    config, run = place.config, place.run
    items = outputs.item_table(run)
    model = outputs.trained_tower(config, run, items)
    histories = outputs.histories(config, run)
    vectors = cold_start_vectors(model, histories)
    prepared = finished_manifest(PREPARE, run)
    extra = {
        "split_sha256": prepared["figures"]["split_sha256"],
        "files": prepared["inputs"]["files"],
        "metrics": _metrics(run),
        "epochs_from": config.train.epochs_from,
        LAST_LEARNED: finished_manifest(TRAIN, run)["figures"].get(LAST_LEARNED),
    }
    version = 1 + max((int(path.name) for path in (run / EXPORT.folder).glob("[0-9]*")), default=0)
    start = prepared["figures"]["times"][0]  # requests have times of the log's clock
    attributes = outputs.attributes(config, run, items.item_ids)
    parts = model, items, vectors, config, extra, place.output, version, histories, start, attributes
    return export_checked(*parts)


def _metrics(run: Path) -> dict[str, float] | None:
    """Returns the figures of the lists of the trained model; None if this model was not evaluated."""
    evaluated, trained = read_manifest(run / EVALUATE.folder), finished_manifest(TRAIN, run)
    if not evaluated or evaluated["inputs"]["stations"][TRAIN.name] != trained["fingerprint"]:
        return None
    return evaluated["figures"]["merge"]


def _check_judge(config: ExperimentConfig) -> None:
    """Raises a `UserError` for a judge of a method with clusters of its own, before the training."""
    from tfdnc.evaluation.judge import refusal

    number = config.cluster.num_clusters
    if config.cluster.method != "single" and number != 1:
        raise UserError(refusal("several" if number == "auto" else number))


def _check_popular_days(config: ExperimentConfig) -> None:
    """Raises a `UserError` for `model.popular_days` with an encoder that does not count items."""
    import numpy as np

    from tfdnc.model.encoders import USER_ENCODERS

    name, days = config.model.encoder, config.model.popular_days
    if days is not None and USER_ENCODERS.resolve(name).initial_items(np.ones(1), config.model.dim) is None:
        raise UserError(
            f"Expected model.popular_days only with an encoder that counts items, such as item_counts; {name} does not."
        )


GENERATE = Station(
    StationName.GENERATE,
    StationName.GENERATE.folder,
    needs=(),
    settings=dependencies.generate_settings,
    work=_generate,
    headline=headlines.generated,
)
PREPARE = Station(
    StationName.PREPARE,
    StationName.PREPARE.folder,
    needs=(),
    settings=dependencies.sections("data"),
    work=_prepare,
    choices=dependencies.prepare_choices,
    headline=headlines.prepared,
    files=dependencies.log_files,
    seeded=False,
)
CLUSTER = Station(
    StationName.CLUSTER,
    StationName.CLUSTER.folder,
    needs=(PREPARE,),
    settings=dependencies.sections("cluster"),
    files=lambda config, run: dependencies.previous_item_table(config.cluster, run),
    work=_cluster,
    choices=lambda config: dependencies.clusterer_choices(config.cluster, "cluster"),
    headline=headlines.clusters,
)
JUDGE = Station(
    StationName.JUDGE,
    StationName.JUDGE.folder,
    needs=(PREPARE,),
    settings=dependencies.judge_settings,
    files=lambda config, run: dependencies.previous_item_table(dependencies.judge_config(config), run),
    work=_judge,
    choices=lambda config: dependencies.clusterer_choices(dependencies.judge_config(config), "evaluate.judge"),
    check=_check_judge,
    headline=headlines.clusters,
)
EXAMPLES = Station(
    StationName.EXAMPLES,
    StationName.EXAMPLES.folder,
    needs=(PREPARE, CLUSTER),
    settings=dependencies.examples_settings,
    work=_examples,
    choices=dependencies.examples_choices,
    headline=headlines.examples,
)
TRAIN = Station(
    StationName.TRAIN,
    StationName.TRAIN.folder,
    needs=(EXAMPLES,),
    settings=dependencies.train_settings,
    work=_train,
    files=dependencies.initial_weights,
    choices=dependencies.train_choices,
    check=_check_popular_days,
    headline=headlines.trained,
    resumes=True,
    format=2,
)
EVALUATE = Station(
    StationName.EVALUATE,
    StationName.EVALUATE.folder,
    needs=(TRAIN,),
    settings=dependencies.evaluate_settings,
    files=dependencies.filter_file,
    work=_evaluate,
    choices=dependencies.merge_choices,
    headline=headlines.evaluated,
)
EXPORT = Station(
    StationName.EXPORT,
    StationName.EXPORT.folder,
    needs=(TRAIN,),  # not EVALUATE: its figures, if any, go into the manifest, but do not change the model
    settings=dependencies.export_settings,
    files=dependencies.item_file,
    work=_export,
    choices=dependencies.export_choices,
    headline=headlines.exported,
    adopts=False,  # the version number counts the exports of this run, and the bundle holds its config
)


def stations_of(config: ExperimentConfig) -> list[Station]:
    """Returns the stations of an experiment, in order."""
    start = [GENERATE] if config.generate else []
    # No need of evaluate, whose settings hold the judge already. It is early, because it may refuse its clusters.
    judge = [JUDGE] if config.evaluate.judge else []
    # There is nothing to evaluate on where every event is for training.
    evaluate = [EVALUATE] if config.data.split != "none" else []
    return [*start, PREPARE, CLUSTER, *judge, EXAMPLES, TRAIN, *evaluate, EXPORT]


def write_config(config: ExperimentConfig, run: Path) -> None:
    """Writes the resolved config into the folder of the run."""
    (run / schema.RUN_CONFIG).write_text(dump_config(config))
