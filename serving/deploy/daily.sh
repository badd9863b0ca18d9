#!/usr/bin/env bash
# One version a day: train on all days before today, compare with the served version on today's events, publish.
#
#     CONFIG=mine.yaml EVENTS=/data/events RUNS=/data/runs MODELS=/models/tfdnc daily.sh [warm|full] [DAY]
#
# `warm` (the default) starts from the run of the last version, `full` from nothing: run it once a week. EVENTS has one file
# per day, DAY.csv or another ending, such as 2026-11-27.parquet. DAY is today (UTC) unless given. The version is judged on
# events that it has not learned. Run it again after a failure: finished stations are skipped.
set -euo pipefail

way=${1:-warm}
day=${2:-$(date -u +%F)}
name=$(basename "$CONFIG" .yaml)
keep=${KEEP:-7}

past=()
for file in "$EVENTS"/*; do
  if [[ $(basename "$file") < $day ]]; then past+=("$file"); fi
done
today=("$EVENTS/$day".*)
log=$(IFS=,; echo "[${past[*]}]")

settings=(--set "name=$name-$day" --set "data.path=$log" --set data.split=none)
if [[ $way == warm ]]; then
  settings+=(--set "train.initial=$(readlink -f "$RUNS/$name-latest")" --set "train.epochs=${EPOCHS:-5}")
fi

tfdnc run "$CONFIG" --runs "$RUNS" "${settings[@]}"
tfdnc publish "$RUNS/$name-$day/bundle" "$MODELS" --keep "$keep" --reason "daily.sh $way $day" \
  --log "${past[@]}" "${today[@]}" --since "$day" \
  --require "recall@50 >= 0.98 * current" --require "overlap@50 >= 0.3"
ln -sfn "$name-$day" "$RUNS/$name-latest"

# A run holds hard links of shared files, so removing one harms no other. The last version needs its run to start from.
for old in $(ls -d "$RUNS/$name"-[0-9]* | head -n "-$keep"); do rm -rf "$old"; done
