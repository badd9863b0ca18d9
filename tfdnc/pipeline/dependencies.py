"""Dependencies of a station's result: settings, input files, and names in registries.

Heavy libraries are imported by the functions that need them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.main import IncEx

from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, ExperimentConfig
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import source_digests
from tfdnc.contracts.registry import Choice
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.version import __version__
from tfdnc.pipeline.fingerprint import RemoteFile, digest, digests_of

if TYPE_CHECKING:
    from beam_jobs.kept_reads import KeptReads
    from beam_jobs.logs.inputs import InputFile

_AFTER_READING = {
    *("path", "keep_read_days", "max_malformed_share", "items", "catalogue", "split", "train_from", "seen"),
    *("validation_from", "test_from", "duplicates", "max_events_per_user", "session_gap", "repeats"),
    *("min_item_events", "min_user_events", "filter_rounds", "until", "users", "targets", "time_zone"),
    "exposures_per_event",
}
"""Settings of the data section that do not change what reading a file of the log gives."""


def resolve_data(config: ExperimentConfig, run: Path) -> DataConfig:
    """Returns the data section, with the path of the generated log if the config generates one."""
    if config.generate is None:
        return config.data
    from tfdnc.datasets.generate import ITEM_FILE, LOG

    folder = run / StationName.GENERATE.folder
    items = ItemFile(
        path=str(folder / ITEM_FILE), title="title", categories="categories", features={"categories": "values"}
    )
    return config.data.model_copy(update={"format": "csv", "path": str(folder / LOG), "items": items})


def resolve_log_format(config: dict[str, Any]) -> DataConfig:
    """Returns the data section of a resolved config, such as that of a bundle, for logs of the same format."""
    data = DataConfig.model_validate(config["data"] | {"items": None})
    return data.model_copy(update={"format": "csv"}) if config["generate"] else data


def log_files(config: ExperimentConfig, run: Path) -> list[Path | RemoteFile]:
    """Returns the files of the log, and the files of items and users."""
    from beam_jobs.item_details import find_details
    from beam_jobs.logs.log_formats import find_log
    from beam_jobs.user_details import find_users

    data = resolve_data(config, run)
    details, users = find_details(data), find_users(data)
    described = [*(details.files if details else []), *([users.file] if users else [])]
    return _input_files([*(log_file.file for log_file in find_log(data).files), *described])


def _input_files(files: Sequence["InputFile"]) -> list[Path | RemoteFile]:
    return [Path(file.path) if file.local else RemoteFile(file.path, file.size, file.modified) for file in files]


def kept_reads(config: ExperimentConfig, run: Path) -> "KeptReads | None":
    """Returns the results of reading that are kept beside the runs; None if the config keeps none.

    The key of a file covers its content, its name, and all settings but those that are applied after reading. So a
    setting that is new in some version is a part of it.
    """
    import pyarrow

    from beam_jobs.kept_reads import FORMAT, KeptReads
    from beam_jobs.logs.log_formats import find_log

    data = resolve_data(config, run)
    if data.keep_read_days is None:
        return None
    settings = {
        "versions": [__version__, pyarrow.__version__, FORMAT],
        "data": data.model_dump(mode="json", exclude=_AFTER_READING),
        "plugins": source_digests(config.plugins),
    }
    files = _input_files([log_file.file for log_file in find_log(data).files])
    contents = digests_of(files).values()
    keys = [digest(settings | {"file": [file.name, content]}) for file, content in zip(files, contents, strict=True)]
    return KeptReads(str((run.parent / schema.KEPT_READS).resolve()), tuple(keys), data.keep_read_days)


_NEW_IN_DATA = ("context", "targets", "users", "exposures")
"""Keys of the data section without effect where they are empty."""


def sections(*names: str) -> Callable[[ExperimentConfig], dict[str, Any]]:
    """Returns the settings function of a station: the named sections, without paths, which do not change the result."""

    def settings(config: ExperimentConfig) -> dict[str, Any]:
        # Of the stations with this section none reads these keys; see `examples_settings` and `kept_reads`.
        of_data: dict[str, IncEx | bool] = {"path": True, "items": {"path", "vectors", "image"}, "users": {"path"}}
        of_data |= {"train_from": True, "seen": True}
        of_data["keep_read_days"] = True
        if config.data.until is None:  # earlier versions had no such key, and their results stay
            of_data["until"] = True
        # Runs of earlier versions, which had no such keys, stay up to date.
        of_data |= {key: True for key in _NEW_IN_DATA if not getattr(config.data, key)}
        if not config.data.context:
            of_data["time_zone"] = True
        if not config.data.exposures:
            of_data["exposures_per_event"] = True
        if config.data.format != "kuairand":  # other formats do not read this section
            of_data["kuairand"] = True
        exclude: dict[str, IncEx | bool] = {"data": of_data, "cluster": {"previous"}, "train": {"initial"}}
        dumped = config.model_dump(mode="json", include=set(names), exclude=exclude)
        if "cluster" in dumped:
            dumped["cluster"] |= _unread_number(config.cluster)
        return _without_empty_options(dumped)

    return settings


def _unread_number(config: ClusterConfig) -> dict[str, int]:
    """Returns the former default of `num_clusters` where it is open and not read: earlier results stay up to date."""
    return {"num_clusters": 10} if config.num_clusters == "auto" and not config.reads_num_clusters else {}


def _without_empty_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns nested settings without empty `options`, so that runs from before there were options stay up to date."""
    given = {key: value for key, value in settings.items() if (key, value) != ("options", {})}
    return {key: _without_empty_options(value) if isinstance(value, dict) else value for key, value in given.items()}


def evaluate_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns merge and figures, with the attributes if lists are measured under a rule."""
    settings = sections("merge", "evaluate")(config)
    for name in ("where", "minimum", "maximum"):  # earlier versions had no such keys, and their reports stay up to date
        if not settings["evaluate"][name]:
            del settings["evaluate"][name]
    return settings | ({"attributes": config.export.attributes} if config.evaluate.reads_attributes else {})


def export_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns merge and bundle, without attributes where there are none, as in earlier versions."""
    settings = sections("merge", "export")(config)
    if not config.export.attributes:
        del settings["export"]["attributes"]
    return settings


def item_file(config: ExperimentConfig, run: Path) -> list[Path | RemoteFile]:
    """Returns the item file, if the bundle has attributes."""
    if not config.export.attributes:
        return []
    from beam_jobs.item_attributes import find_attributes

    return _input_files([find_attributes(resolve_data(config, run), config.export.attributes).file])


def filter_file(config: ExperimentConfig, run: Path) -> list[Path | RemoteFile]:
    """Returns the item file, if lists are measured under a rule that reads it."""
    return item_file(config, run) if config.evaluate.reads_attributes else []


def generate_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the settings of a generated log; earlier versions had none with repeats, and their logs stay."""
    settings = sections("generate")(config)
    if config.generate is not None and not config.generate.repeats:
        del settings["generate"]["repeats"]
    return settings


def examples_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the settings of the examples, with the time before which events are no targets, if there is one.

    With `data.seen: allow` negatives, validation, report and bundle differ: the examples and all that follow.
    """
    first = config.data.first_trained
    settings = sections("examples")(config) | ({} if first is None else {"train_from": first})
    return settings | ({"seen": config.data.seen} if config.data.allows_seen else {})


def train_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the settings of model and training, with merge and list sizes, which decide the best epoch."""
    settings = sections("model", "train", "merge")(config)
    train = {key: value for key, value in settings["train"].items() if key != "epochs_from"}  # a reason, no setting
    if config.train.stop_after is None:
        del train["stop_after"]  # earlier versions had no such key, and their trainings stay up to date
    if config.served_intent == "learned":
        del train["served_intent"]  # likewise: they served the learned intent
    for key, default in (("optimizer", "auto"), ("draws", "pool"), ("patience_drop", 0.01)):
        if train[key] == default:
            del train[key]  # likewise
    if config.train.draws != "hard":
        del train["hard_from"], train["hard_to"], train["hard_refresh"]  # likewise
    if not config.train.reads_exposures:
        del train["exposure_weight"]  # likewise
    if not train["auxiliary"]:
        del train["auxiliary"], train["masked_items"]
    new = (("history_clusters", False), ("intent_width", 4), ("user_token", False), ("popular_days", None))
    model = {key: value for key, value in settings["model"].items() if (key, value) not in new}
    return settings | {"model": model, "train": train, "candidates": list(config.evaluate.candidates)}


def prepare_choices(config: ExperimentConfig) -> list[Choice]:
    """Returns the log format."""
    from beam_jobs.logs.log_formats import LOG_FORMATS

    return [Choice(LOG_FORMATS, config.data.format, config.data.options, "data.options")]


def clusterer_choices(config: ClusterConfig, section: str) -> list[Choice]:
    """Returns the clusterer of a section of the config."""
    from tfdnc.clustering import CLUSTERERS

    return [Choice(CLUSTERERS, config.method, config.options, f"{section}.options")]


def previous_item_table(config: ClusterConfig, run: Path) -> list[Path]:
    """Returns the file that the clusterer reads beside the prepared log, if any.

    Raises:
        UserError: it is missing, or a file of this run, which the station would replace, so that it could never be up
            to date.
    """
    if config.previous is None:
        return []
    if config.previous.resolve().is_relative_to(run.resolve()):
        raise UserError(
            f"Expected cluster.previous of another run, got {config.previous}, which this run writes itself; give the "
            "new run another name. It follows from train.initial where the config does not name it."
        )
    if not config.previous.is_file():
        raise UserError(
            f"Expected the item table of an earlier run in cluster.previous, found no file {config.previous}. Name "
            "another run, there or in train.initial, from which it follows."
        )
    return [config.previous]


def initial_weights(config: ExperimentConfig, run: Path) -> list[Path]:
    """Returns the files of the checkpoint that the training starts from, if any.

    Raises:
        UserError: it is the run itself, or has no weights.
    """
    initial = config.train.initial
    if initial is None:
        return []
    if initial.resolve() == run.resolve():  # as with cluster.previous
        raise UserError(
            f"Expected train.initial of another run, got {initial}, which this run writes itself; give the new run "
            "another name."
        )
    folder = initial / StationName.TRAIN.folder
    files = sorted(folder.glob(f"{schema.WEIGHTS}.*"))
    if not files:
        raise UserError(
            f"Expected the folder of a trained run in train.initial, found no weights in {folder}; name another run, "
            "or train that one first."
        )
    return files


def judge_config(config: ExperimentConfig) -> ClusterConfig:
    """Returns the section of the judge, of a config that has one: others have no such station."""
    assert config.evaluate.judge is not None
    return config.evaluate.judge


def judge_settings(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the settings of a cluster station with the judge's config, which then has the same fingerprint."""
    judge = judge_config(config)
    settings = judge.model_dump(mode="json", exclude={"previous"}) | _unread_number(judge)
    return {"cluster": _without_empty_options(settings)}


def examples_choices(config: ExperimentConfig) -> list[Choice]:
    """Returns the sampler of negatives."""
    from tfdnc.contracts.negative_sampling import NEGATIVE_SAMPLERS

    return [Choice(NEGATIVE_SAMPLERS, config.examples.sampler, config.examples.options, "examples.options")]


def train_choices(config: ExperimentConfig) -> list[Choice]:
    """Returns encoder, loss, auxiliary objectives, sources of negatives and draws, optimiser, and the merge that
    validates.
    """
    from tfdnc.model.auxiliary import AUXILIARIES
    from tfdnc.model.encoders import USER_ENCODERS
    from tfdnc.model.losses import LOSSES
    from tfdnc.model.losses.draw_sources import DRAW_SOURCES
    from tfdnc.training.negative_sources import NEGATIVE_SOURCES
    from tfdnc.training.optimizers import OPTIMIZERS

    return [
        Choice(USER_ENCODERS, config.model.encoder, config.model.options, "model.options"),
        Choice(LOSSES, config.train.loss, config.train.options, "train.options"),
        *(Choice(AUXILIARIES, name) for name in config.train.auxiliary),
        Choice(NEGATIVE_SOURCES, config.train.negatives),
        Choice(OPTIMIZERS, config.train.optimizer),
        Choice(DRAW_SOURCES, config.train.draws),
        *merge_choices(config),
    ]


def merge_choices(config: ExperimentConfig) -> list[Choice]:
    """Returns the merge."""
    from tfdnc.retrieval.merge import MERGES

    return [Choice(MERGES, config.merge.method, config.merge.options, "merge.options")]


def export_choices(config: ExperimentConfig) -> list[Choice]:
    """Returns merge and index."""
    from tfdnc.retrieval.index import INDEXES

    return [*merge_choices(config), Choice(INDEXES, config.export.index)]
