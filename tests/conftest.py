"""Fixtures and the order of tests."""

import logging
import os

# Set before any test module imports TensorFlow, whichever comes first.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each of some hundred processes would compile all of tfdnc, which is a tenth of the time that it takes to start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from readme import commands, follow, set_up
from xdist.scheduler import LoadScopeScheduling

LONGEST_FIRST = (
    *("test_methods", "test_export", "test_retriever", "test_readme", "test_end_to_end", "test_compare", "test_train"),
    *("test_benchmark_serving", "test_killed_jobs", "test_features_end_to_end", "test_workers", "test_evaluation"),
    *("test_inputs_of_every_owner_end_to_end", "test_python_docs", "test_final_fit", "test_warm_start_end_to_end"),
    *("test_time_split_end_to_end", "test_serving_robustness", "test_benchmark", "test_export_filtered"),
    *("test_exposures_end_to_end", "test_seen_end_to_end", "test_simulate"),
)
"""Files that take longest, by `--durations`: begun first, so that no core has one of them left at the end."""


SHARES_README = (
    "tests/test_readme.py",
    "tests/test_times_end_to_end.py",
    "tests/test_python_docs.py",
    "tests/test_explore.py",
    "tests/test_report_lists.py",
)
"""Files that read the one folder of `readme_folder`."""


class FileScheduling(LoadScopeScheduling):
    """Gives each file to one core, and files that share a folder to the same one."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return SHARES_README[0] if file in SHARES_README else file


def pytest_xdist_make_scheduler(config, log):
    """Not `--dist=loadfile`, which would make the folder of `readme_folder` on both cores."""
    return FileScheduling(config, log)


def pytest_collection_modifyitems(items):
    """Orders the files: those that take longest come first."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def _quiet_start():
    """A command that ran in this process has set levels and filters of log records for the rest of it."""
    logging.captureWarnings(False)
    logging.getLogger().setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.NOTSET)
        handler.filters.clear()


@pytest.fixture(scope="session")
def readme_folder(tmp_path_factory):
    """A folder in which README's commands were followed up to the first run of the reader's own config."""
    folder = tmp_path_factory.mktemp("readme")
    set_up(folder)
    steps = [next(one for one in commands() if one.startswith(word)) for word in ("source", "tfdnc run")]
    follow(steps, folder, seconds=300)
    return folder
