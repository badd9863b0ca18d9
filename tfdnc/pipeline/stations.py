"""The stations from a log to a bundle, in order, each bound to the code that does its work.

Heavy libraries are imported by the stations that need them, when one of those is visited.
"""

from collections.abc import Callable
from pathlib import Path

from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, ExperimentConfig, dump_config
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import model_features
from tfdnc.contracts.registry import Choice
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline import outputs
from tfdnc.pipeline.engine import Station, Workplace, read_manifest, unfinished_folder
from tfdnc.pipeline.fingerprint import RemoteFile

_RECORDED_HISTORIES = 5


def _refuse_times_below_0(config: ExperimentConfig, prepared: dict) -> None:
    """Raises a `UserError` when the model is to read times that a request cannot say."""
    first = prepared["times"][0]
    if config.model.times and first < 0:
        raise UserError(
            f"Expected times from 0 up in the log with model.times, found {first}: in a request a time below 0 says "
            "that it is unknown. Only differences count: add a constant to all times of the log, or set model.times: "
            "false."
        )


def _generate(place: Workplace) -> dict:
    from tfdnc.datasets.generate import generate_log

    return generate_log(place.config.generate, place.config.seed, place.output)


def _prepare(place: Workplace) -> dict:
    from beam_jobs.sequences import prepare

    figures = prepare(resolve_data(place.config, place.run), place.output)
    _refuse_times_below_0(place.config, figures)
    return figures


def _cluster(place: Workplace) -> dict:
    from tfdnc.clustering import build_clusters

    return build_clusters(place.run / PREPARE.folder, place.config.cluster, place.config.seed, place.output)


def _judge(place: Workplace) -> dict:
    from tfdnc.clustering import build_clusters

    return build_clusters(place.run / PREPARE.folder, place.config.evaluate.judge, place.config.seed, place.output)


def _examples(place: Workplace) -> dict:
    from beam_jobs.examples import build_examples

    sequences = place.run / PREPARE.folder / schema.SEQUENCES
    item_table = place.run / CLUSTER.folder / schema.ITEMS
    config = place.config
    first_trained = config.data.first_trained
    return build_examples(sequences, item_table, config.examples, config.seed, place.output, train_from=first_trained)


def _train(place: Workplace) -> dict:
    from tfdnc.evaluation.report import validation_objective, validator
    from tfdnc.training.team import Team
    from tfdnc.training.train import train
    from tfdnc.training.workers import this_place

    team = Team(this_place())
    config, run = place.config, place.run
    _refuse_times_below_0(config, read_manifest(run / PREPARE.folder)["figures"])  # prepared without model.times
    items = outputs.item_table(run)
    validate = validator(config, outputs.held_out_records(config, run, schema.VALIDATION))
    records = outputs.training_records(config, run, team.place)
    common = unfinished_folder(TRAIN, place.run)
    return train(config, items, records, validate, validation_objective(config), place.output, team, common)


def _evaluate(place: Workplace) -> dict:
    from tfdnc.contracts.items import read_items
    from tfdnc.evaluation.plot import plot_alpha_curve
    from tfdnc.evaluation.report import evaluate, write_report

    config, run = place.config, place.run
    items = outputs.item_table(run)
    judge = read_items(run / JUDGE.folder) if config.evaluate.judge else None
    model = outputs.trained_tower(config, run, items)
    test, validation = (outputs.held_out_records(config, run, split) for split in (schema.TEST, schema.VALIDATION))
    report = evaluate(config, model, items, test, validation, judge)
    write_report(report, place.output)
    plot_alpha_curve(report, place.output)
    return report


def _export(place: Workplace) -> dict:
    from serving.bundles.recorded import record, recorded_vectors
    from tfdnc.export.bundle import export_bundle
    from tfdnc.export.cold_start import cold_start_vectors
    from tfdnc.export.histories import sample_by_length, sample_histories
    from tfdnc.export.users import encode_users, refuse_other_vectors, sample_users

    config, run = place.config, place.run
    items = outputs.item_table(run)
    model = outputs.trained_tower(config, run, items)
    histories = outputs.held_out_records(config, run, schema.VALIDATION)
    vectors = cold_start_vectors(model, histories)
    prepared = read_manifest(run / PREPARE.folder)
    extra = {
        "split_sha256": prepared["figures"]["split_sha256"],
        "files": prepared["inputs"]["files"],
        "metrics": _metrics(run),
    }
    version = 1 + max((int(path.name) for path in (run / EXPORT.folder).glob("[0-9]*")), default=0)
    users = sample_users(model, histories)
    figures = export_bundle(model, items, vectors, config, extra, place.output, version, users)
    start = prepared["figures"]["times"][0]  # by the log's own clock, as clients ask
    features = model_features(config)
    asked, known = sample_histories(histories, items, _RECORDED_HISTORIES, features, start)
    sizes = config.export.num_candidates, config.export.max_candidates
    recorded = record(place.output / str(version), asked, *sizes, features, known)
    expected = encode_users(model, sample_by_length(histories, _RECORDED_HISTORIES)).vectors
    refuse_other_vectors(recorded_vectors(place.output / str(version))[: len(expected)], expected)
    return figures | {"recorded_requests": recorded}


def _metrics(run: Path) -> dict | None:
    """Figures of the lists of this very model; None where it was not evaluated."""
    evaluated, trained = (read_manifest(run / station.folder) for station in (EVALUATE, TRAIN))
    if not evaluated or evaluated["inputs"]["stations"][TRAIN.name] != trained["fingerprint"]:
        return None
    return evaluated["figures"]["merge"]


def resolve_data(config: ExperimentConfig, run: Path) -> DataConfig:
    """Returns the data section, pointed at the generated log where the config asks for one."""
    if config.generate is None:
        return config.data
    from tfdnc.datasets.generate import ITEM_FILE, LOG

    folder = run / GENERATE.folder
    items = ItemFile(path=folder / ITEM_FILE, title="title", categories="categories", features={"categories": "values"})
    return config.data.model_copy(update={"format": "csv", "path": str(folder / LOG), "items": items})


def resolve_log_format(config: dict) -> DataConfig:
    """Returns the data section of a resolved config, such as a bundle's, for logs of the same format."""
    data = DataConfig.model_validate(config["data"] | {"items": None})
    return data.model_copy(update={"format": "csv"}) if config["generate"] else data


def _log_files(config: ExperimentConfig, run: Path) -> list[Path | RemoteFile]:
    from beam_jobs.item_details import find_details
    from beam_jobs.logs.log_formats import find_log

    data = resolve_data(config, run)
    details = find_details(data)
    files = [*(log_file.file for log_file in find_log(data).files), *([details.file] if details else [])]
    return [Path(file.path) if file.local else RemoteFile(file.path, file.size, file.modified) for file in files]


def _sections(*names: str) -> Callable[[ExperimentConfig], dict]:
    """config -> the named sections; where files lie is no part of what a station makes of them."""

    def settings(config: ExperimentConfig) -> dict:
        unused = {} if config.data.format == "kuairand" else {"kuairand": True}  # what another format does not read
        exclude = {
            "data": {"path": True, "items": {"path"}, "train_from": True, **unused},  # the examples read train_from
            "cluster": {"previous"},
            "train": {"initial"},
        }
        dumped = config.model_dump(mode="json", include=set(names), exclude=exclude)
        return _without_empty_options(dumped)

    return settings


def _without_empty_options(settings: dict) -> dict:
    """Settings, section in section, without options that are not there: they say nothing, as before there were any."""
    said = {key: value for key, value in settings.items() if (key, value) != ("options", {})}
    return {key: _without_empty_options(value) if isinstance(value, dict) else value for key, value in said.items()}


def _examples_settings(config: ExperimentConfig) -> dict:
    first = config.data.first_trained
    return _sections("examples")(config) | ({} if first is None else {"train_from": first})


def _train_settings(config: ExperimentConfig) -> dict:
    """The model and its training; merge and list sizes too, because the best epoch is picked by them."""
    sizes = list(config.evaluate.candidates)
    return _sections("model", "train", "merge")(config) | {"candidates": sizes}


def _prepare_choices(config: ExperimentConfig) -> list[Choice]:
    from beam_jobs.logs.log_formats import LOG_FORMATS

    return [Choice(LOG_FORMATS, config.data.format, config.data.options, "data.options")]


def _clusterer(config: ClusterConfig, section: str) -> list[Choice]:
    from tfdnc.clustering import CLUSTERERS

    return [Choice(CLUSTERERS, config.method, config.options, f"{section}.options")]


def _item_table_before(config: ClusterConfig, run: Path) -> list[Path]:
    """The file that the clusterer reads beside the prepared log, if any."""
    if config.previous is None:
        return []
    if config.previous.resolve().is_relative_to(run.resolve()):  # it would be read, replaced, and never be up to date
        raise UserError(
            f"Expected cluster.previous of another run, got {config.previous}, which this run writes itself; give the "
            "new run another name."
        )
    return [config.previous]


def _initial_weights(config: ExperimentConfig, run: Path) -> list[Path]:
    """The checkpoint that the training starts from, if any."""
    initial = config.train.initial
    if initial is None:
        return []
    if initial.resolve() == run.resolve():  # as with cluster.previous
        raise UserError(
            f"Expected train.initial of another run, got {initial}, which this run writes itself; give the new run "
            "another name."
        )
    files = sorted((initial / TRAIN.folder).glob(f"{schema.WEIGHTS}.*"))
    if not files:
        raise UserError(
            f"Expected the folder of a trained run in train.initial, found no weights in {initial / TRAIN.folder}; "
            "name another run, or train that one first."
        )
    return files


def _judge_settings(config: ExperimentConfig) -> dict:
    """What a cluster station with the judge's config has, so that both have one fingerprint and one result."""
    judge = config.evaluate.judge.model_dump(mode="json", exclude={"previous"})
    return {"cluster": _without_empty_options(judge)}


def _check_judge(config: ExperimentConfig) -> None:
    from tfdnc.evaluation.judge import refusal

    if config.cluster.method != "single" and config.cluster.num_clusters > 1:  # said before the training, not after it
        raise UserError(refusal(config.cluster.num_clusters))


def _examples_choices(config: ExperimentConfig) -> list[Choice]:
    from tfdnc.contracts.negative_sampling import NEGATIVE_SAMPLERS

    return [Choice(NEGATIVE_SAMPLERS, config.examples.sampler, config.examples.options, "examples.options")]


def _train_choices(config: ExperimentConfig) -> list[Choice]:
    from tfdnc.model.encoders import USER_ENCODERS
    from tfdnc.model.losses import LOSSES
    from tfdnc.training.negative_sources import NEGATIVE_SOURCES

    return [
        Choice(USER_ENCODERS, config.model.encoder, config.model.options, "model.options"),
        Choice(LOSSES, config.train.loss, config.train.options, "train.options"),
        Choice(NEGATIVE_SOURCES, config.train.negatives),
        *_merge_choices(config),
    ]


def _merge_choices(config: ExperimentConfig) -> list[Choice]:
    from tfdnc.retrieval.merge import MERGES

    return [Choice(MERGES, config.merge.method, config.merge.options, "merge.options")]


def _export_choices(config: ExperimentConfig) -> list[Choice]:
    from tfdnc.retrieval.index import INDEXES

    return [*_merge_choices(config), Choice(INDEXES, config.export.index)]


def _prepared(figures: dict) -> str:
    from beam_jobs.item_accounts import headline

    kept = f"{figures['events']:,} events of {figures['users']:,} users on {figures['items']:,} items kept"
    if days := figures.get("days"):  # not in what an earlier version has prepared
        kept += f", {days[0]} to {days[1]}"
    counts = {"malformed": sum(figures["rows_malformed"].values())}
    rules = {rule: count for rule, count in figures["rows_filtered"].items() if count}
    by_rule = ", ".join(f"{count:,} by {rule}" for rule, count in rules.items())
    counts |= {f"filtered ({by_rule})": sum(rules.values())}
    gone = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    kept += f"; of {figures['rows_read']:,} rows {gone}" if gone else ""
    if joined := figures.get("lines_joined"):  # likewise
        kept += f"; {joined:,} lines go on with a row inside quotes"
    items = figures.get("item_file")  # likewise
    return f"{kept}; {headline(items)}" if items else kept


def _examples_headline(figures: dict) -> str:
    positions, negatives = f"{figures['positions']:,} training positions", figures["negatives"]
    if not negatives["drawn"] + negatives["empty"]:
        return f"{positions}, no negatives recorded: none are read"
    return f"{positions}, {negatives['empty']:,} negatives left empty"


def _trained(figures: dict) -> str:
    parameters, epochs, best = f"{figures['parameters']:,} parameters", figures["epochs"], figures["best_epoch"]
    if figures.get("stopped_early"):  # not in what an earlier version has trained
        return f"{parameters}, stopped after epoch {epochs}: no better for {epochs - best} epochs, best was {best}"
    return f"{parameters}, best epoch {best} of {epochs}"


def _clusters_headline(figures: dict) -> str:
    sizes = f"{figures['clusters']} clusters of {figures['smallest']:,} to {figures['largest']:,} items"
    sizes += f", {figures['cold_items']:,} items cold" if figures["cold_items"] else ""
    # Of cluster.method category, and of previous.
    sizes += f", {n:,} items without category" if (n := figures.get("items_without_category")) else ""
    sizes += f", {figures['known_items']:,} items keep theirs" if "known_items" in figures else ""
    observed, chance = figures["next_in_cluster"], figures["next_by_chance"]
    return f"{sizes}; next item in the same cluster {observed:.3f} (by chance {chance:.3f})"


GENERATE = Station(
    StationName.GENERATE,
    StationName.GENERATE.folder,
    needs=(),
    settings=_sections("generate"),
    work=_generate,
    headline=lambda f: f"{f['events']:,} events of {f['users']:,} users on {f['items']:,} items",
)
PREPARE = Station(
    StationName.PREPARE,
    StationName.PREPARE.folder,
    needs=(),
    settings=_sections("data"),
    work=_prepare,
    choices=_prepare_choices,
    headline=_prepared,
    files=_log_files,
    seeded=False,
)
CLUSTER = Station(
    StationName.CLUSTER,
    StationName.CLUSTER.folder,
    needs=(PREPARE,),
    settings=_sections("cluster"),
    files=lambda config, run: _item_table_before(config.cluster, run),
    work=_cluster,
    choices=lambda config: _clusterer(config.cluster, "cluster"),
    headline=_clusters_headline,
)
JUDGE = Station(
    StationName.JUDGE,
    StationName.JUDGE.folder,
    needs=(PREPARE,),
    settings=_judge_settings,
    files=lambda config, run: _item_table_before(config.evaluate.judge, run),
    work=_judge,
    choices=lambda config: _clusterer(config.evaluate.judge, "evaluate.judge"),
    check=_check_judge,
    headline=_clusters_headline,
)
EXAMPLES = Station(
    StationName.EXAMPLES,
    StationName.EXAMPLES.folder,
    needs=(PREPARE, CLUSTER),
    settings=_examples_settings,
    work=_examples,
    choices=_examples_choices,
    headline=_examples_headline,
)
TRAIN = Station(
    StationName.TRAIN,
    StationName.TRAIN.folder,
    needs=(EXAMPLES,),
    settings=_train_settings,
    files=_initial_weights,
    work=_train,
    choices=_train_choices,
    headline=_trained,
    resumes=True,
    format=2,
)
EVALUATE = Station(
    StationName.EVALUATE,
    StationName.EVALUATE.folder,
    needs=(TRAIN,),
    settings=_sections("merge", "evaluate"),
    work=_evaluate,
    choices=_merge_choices,
    headline=lambda f: ", ".join(
        f"{name} {value:.4f}" for name, value in f["merge"].items() if name.startswith("recall")
    ),
)
EXPORT = Station(
    StationName.EXPORT,
    StationName.EXPORT.folder,
    needs=(TRAIN,),  # the figures of EVALUATE are told where they are there, and make no other bundle
    settings=_sections("merge", "export"),
    work=_export,
    choices=_export_choices,
    headline=lambda f: f"version {f['version']}, {f['megabytes']:.1f} MB, index {f['index']}",
    adopts=False,  # the version number counts this run's exports, and the bundle names its config
)


def stations_of(config: ExperimentConfig) -> list[Station]:
    """The stations of an experiment, in order."""
    start = [GENERATE] if config.generate else []
    # Not among the needs of evaluate, whose settings hold the judge already; early, because it may refuse its clusters.
    judge = [JUDGE] if config.evaluate.judge else []
    return [*start, PREPARE, CLUSTER, *judge, EXAMPLES, TRAIN, EVALUATE, EXPORT]


def write_config(config: ExperimentConfig, run: Path) -> None:
    """Stores the resolved config in the run's folder."""
    (run / schema.RUN_CONFIG).write_text(dump_config(config))
