# %% [markdown]
# # Your own log in ten minutes
#
# From a CSV file to lists that you control, in Python. `make docs` runs this page as it stands. As a file it is
# [own_log.py](own_log.py); Jupyter opens it with jupytext.
#
# ## 1. A log
#
# A row per event is enough: a user, an item, a time. A second file may describe the items. This cell writes a small
# log, in which customers mostly stay in one department. Put your own files in its place.

# %%
import csv
import random

draw = random.Random(1)
departments = ["Garden", "Kitchen", "Music", "Sports"]
things = {name: [f"{name.lower()}-{i}" for i in range(25)] for name in departments}
with open("items.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["sku", "name", "department"])
    rows.writerows([sku, sku.title().replace("-", " "), name] for name in departments for sku in things[name])
with open("log.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["customer", "sku", "bought_at"])
    for customer in range(150):
        time, home = 1_700_000_000, departments[customer % 4]
        for _ in range(20):
            time += draw.randrange(1, 100_000)
            department = home if draw.random() < 0.8 else draw.choice(departments)
            rows.writerow([f"c{customer}", draw.choice(things[department]), time])

# %% [markdown]
# ## 2. A config
#
# It names your columns. The lines below `cluster` make the example fast; [defaults](../training.md) suit real logs.

# %%
with open("mine.yaml", "w") as file:
    file.write("""
name: mine
data:
  path: log.csv
  columns: {user: customer, item: sku, time: bought_at}
  items: {path: items.csv, item: sku, title: name, categories: department}
cluster: {num_clusters: 4, dim: 16}
model: {dim: 16, blocks: 1, max_length: 16}
train: {epochs: 4, batch_tokens: 800, learning_rate: 0.01, warmup_steps: 10}
evaluate: {candidates: [10, 20], alphas: [0, 1, 2]}
export: {num_candidates: 20, max_candidates: 50, index: exact}
""")

# %% [markdown]
# ## 3. Read the log
#
# `prepare` counts every row: as an event, under the rule that left it out, or as malformed with its reason. Look at
# these figures first. [Logs and items](../data.md) has formats, filters and splits.

# %%
import tfdnc

config = tfdnc.load_config("mine.yaml")
read = tfdnc.run(config, until="prepare", runs="runs").figures("prepare")
for name in ("rows_read", "rows_malformed", "rows_filtered", "users", "items", "events", "days"):
    print(f"{name:15} {read[name]}")

# %% [markdown]
# ## 4. Train, evaluate and export
#
# The last event of each user is held out: the test item. The lists must find it among all items that the user has
# not seen. Stations that are up to date, here `prepare`, do not run again.

# %%
run = tfdnc.run(config, runs="runs")
report = run.report
for name, figures in (("the model", report["merge"]), ("popular items", report["popularity"])):
    print(f"{name:15} recall@10 {figures['recall@10']:.3f}, recall@20 {figures['recall@20']:.3f}")
print("clusters:", ", ".join(run.items.cluster_names))

# %% [markdown]
# Recall and spread against alpha, as the report of the run draws them:

# %%
from IPython.display import Image

Image(filename=run.folder / "evaluate" / "alpha_curve.png")

# %% [markdown]
# ## 5. Ask, and move alpha
#
# Alpha 0 gives every cluster an equal share of the list, larger values follow the user's intent. `minimum` asks for
# results of a cluster by its name.

# %%
history = ["garden-1", "garden-7", "kitchen-3", "garden-4"]
with tfdnc.load_bundle(run.folder / "bundle") as bundle:
    names = bundle.cluster_names()
    for alpha in (0.0, 1.0, 2.0):
        [answer] = bundle.retrieve([history], num_candidates=10, alpha=alpha)
        print(f"alpha {alpha}:", dict(zip(names, answer.quotas.tolist(), strict=True)), answer.item_ids[:3])
    [answer] = bundle.retrieve([history], num_candidates=10, alpha=2.0, minimum={names[-1]: 2})
    print(f"at least 2 of {names[-1]}:", dict(zip(names, answer.quotas.tolist(), strict=True)))

# %% [markdown]
# ## Next
#
# - `tfdnc explore runs/mine` shows the same in a browser, with a slider; `tfdnc serve runs/mine/bundle` answers over
#   gRPC and REST ([serving](../serving.md)).
# - New events every day, warm starts and rollbacks: [day two](../operations.md).
# - [An encoder of your own](own_encoder.md) goes on in this folder.
