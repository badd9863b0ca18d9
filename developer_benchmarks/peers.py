"""CPU seconds of training until a recall is reached: SASRec of RecTools (PyTorch) beside configs of this project.

    python3 -m venv PEER && PEER/bin/pip install 'rectools[torch]'        # an environment of its own, of several GB
    OMP_NUM_THREADS=1 PEER/bin/python developer_benchmarks/peers.py rectools ML_1M peer.jsonl --settings softmax
    OMP_NUM_THREADS=1 tfdnc train configs/ml1m/dnc.yaml --set data.path=ML_1M --set train.validate_every=1
    python developer_benchmarks/peers.py table peer.jsonl runs/ml1m-dnc

Both learn the events of a user up to the last two, and are asked for the last but one with all unseen items ranked:
R@10 of validation. Events at one time are in the order of the file. CPU seconds are of epochs, without validation.
"""

import argparse
import csv
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    # The defaults of RecTools 0.19 (256 factors, 4 heads), with windows as long as in its tutorials on this log.
    "softmax": {"loss": "softmax", "session_max_len": 200},
    # SASRec of its tutorial on HSTU, which reports R@10 .288 of the test items.
    "tutorial": {
        "loss": "sampled_softmax",
        "n_negatives": 128,
        "session_max_len": 200,
        "n_factors": 50,
        "n_heads": 1,
        "lightning_module_kwargs": {"logits_t": 0.05},
    },
    # The loss, negatives, temperature and windows of gSASRec's own config for this log, in RecTools' SASRec.
    "gbce": {
        "loss": "gBCE",
        "n_negatives": 256,
        "gbce_t": 0.75,
        "session_max_len": 200,
        "n_factors": 128,
        "n_heads": 1,
    },
}
RECALLS = (0.20, 0.25, 0.28, 0.30)


def measure_rectools(log: Path, output: Path, settings: str, epochs: int) -> None:
    """Trains SASRec of RecTools, and appends a line per epoch to `output`: its CPU seconds so far, and the recall."""
    import pytorch_lightning as lightning
    from rectools.models import SASRecModel

    lightning.seed_everything(1)
    dataset, targets = _read(log)
    seconds = 0.0

    class Clock(lightning.Callback):
        """Measures an epoch, then the recall with the clock stopped."""

        def on_train_epoch_start(self, *_: object) -> None:
            self.began = time.process_time()

        def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
            nonlocal seconds
            seconds += time.process_time() - self.began
            model.is_fitted = True  # `recommend` asks for it
            row = {"name": f"rectools {settings}", "epoch": trainer.current_epoch + 1}
            row |= {"cpu_seconds": round(seconds, 1), "recall@10": round(_recall_at_10(model, dataset, targets), 4)}
            module.train()
            print(row, flush=True)
            with output.open("a", encoding="utf-8") as file:
                print(json.dumps(row), file=file)

    def trainer() -> lightning.Trainer:
        off = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary", "enable_progress_bar"), False)
        return lightning.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[Clock()], **off)

    model = SASRecModel(**SETTINGS[settings], get_trainer_func=trainer, recommend_torch_device="cpu")
    model.fit(dataset)


def _read(log: Path) -> tuple[Any, dict[str, str]]:
    """Returns the training events as a dataset of RecTools, and the item that validation asks each user for."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    with (log / "ratings.dat").open(encoding="latin-1", newline="") as file:
        rows = pd.DataFrame([[row[0], row[2], row[6]] for row in csv.reader(file, delimiter=":")])
    rows.columns = pd.Index([Columns.User, Columns.Item, Columns.Datetime])
    rows[Columns.Weight] = 1.0  # a factor of the loss; ratings are not read here either
    rows = rows[rows[Columns.Item].map(rows[Columns.Item].value_counts()) >= 5]
    rows = rows.astype({Columns.Datetime: "int64"})
    rows = rows.sort_values([Columns.User, Columns.Datetime], kind="stable")
    # RecTools sorts by time again: events at one time are a microsecond apart, in the order of the file.
    rows[Columns.Datetime] = pd.to_datetime(
        rows[Columns.Datetime] * 10**6 + rows.groupby(Columns.User).cumcount(), unit="us"
    )
    left = rows.groupby(Columns.User).cumcount(ascending=False)
    asked = rows[left == 1]
    return Dataset.construct(rows[left > 1]), dict(zip(asked[Columns.User], asked[Columns.Item], strict=True))


def _recall_at_10(model: Any, dataset: Any, targets: dict[str, str]) -> float:
    from rectools import Columns

    lists = model.recommend(users=list(targets), dataset=dataset, k=10, filter_viewed=True)
    return float((lists[Columns.User].map(targets) == lists[Columns.Item]).sum() / len(targets))


def curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns (CPU seconds so far, recall or NaN) after every epoch, by name of the model.

    Args:
        path: of a file that `measure_rectools` wrote, or the folder of a run of this project.
    """
    if path.is_file():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        points = [(row["name"], row["cpu_seconds"], row["recall@10"]) for row in rows]
    else:
        epochs = json.loads((path / "train" / "history.json").read_text(encoding="utf-8"))
        seconds = itertools.accumulate(epoch["cpu_seconds"] for epoch in epochs)
        recalls = [epoch.get("val_recall@10", math.nan) for epoch in epochs]
        points = [(path.name, *point) for point in zip(seconds, recalls, strict=True)]
    names = dict.fromkeys(name for name, _, _ in points)
    return {name: [point[1:] for point in points if point[0] == name] for name in names}


def table(named: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Returns the lines of a table in Markdown: CPU seconds of an epoch, and until each of `RECALLS` is first seen."""
    titles = ["model", "epochs", "CPU s per epoch", *(f"R@10 {least:.2f}" for least in RECALLS)]
    rows = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for name, points in named.items():
        until = [next((f"{seconds:,.0f}" for seconds, recall in points if recall >= least), "") for least in RECALLS]
        rows.append([name, str(len(points)), f"{points[-1][0] / len(points):.1f}", *until])
    return [f"| {' | '.join(row)} |" for row in rows]


def main() -> None:
    """Measures a peer, or prints the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    rectools = commands.add_parser("rectools")
    rectools.add_argument("log", type=Path, help="folder with ratings.dat of MovieLens-1M")
    rectools.add_argument("output", type=Path, help="JSON Lines, one per epoch")
    rectools.add_argument("--settings", choices=SETTINGS, default="softmax")
    rectools.add_argument("--epochs", type=int, default=30)
    shown = commands.add_parser("table")
    shown.add_argument("curves", type=Path, nargs="+", help="files of peers, and folders of runs of this project")
    arguments = parser.parse_args()
    if arguments.command == "rectools":
        measure_rectools(arguments.log, arguments.output, arguments.settings, arguments.epochs)
    else:
        named = {name: points for path in arguments.curves for name, points in curves(path).items()}
        print("\n".join(table(named)))


if __name__ == "__main__":
    main()
