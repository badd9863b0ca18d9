#!/bin/sh
# Candidates for two users over REST, with curl: retrieve.sh [HOST:PORT]
#
# The server needs --rest_api_port; 8501 is TF Serving's habit. One instance is one user; a shorter history is filled up
# with "" to the length of the longest. A negative alpha asks for the merge the bundle was exported with. A model that reads
# times wants "history_times": [1700000000, ...], one for each item of the history, and "request_time": 1700000100 as well.
#
# The answer is {"predictions": [...]}, an object per user with the outputs of the signature: read the first `num_results`
# of `item_ids`, the rest is padding. Errors are {"error": "..."} with a 4xx or 5xx status, on which --fail-with-body
# makes curl end with status 22.
#
# A version is /v1/models/tfdnc/versions/7:predict, a label /v1/models/tfdnc/labels/stable:predict; GET /v1/models/tfdnc
# says which are available, GET /v1/models/tfdnc/metadata what they take.
exec curl --silent --show-error --fail-with-body --max-time 10 "http://${1:-127.0.0.1:8501}/v1/models/tfdnc:predict" \
    --header 'Content-Type: application/json' --data '{
  "signature_name": "retrieve",
  "instances": [
    {"history": ["2858", "260", "1196"], "num_candidates": 10, "alpha": 1.0},
    {"history": ["1", "", ""], "num_candidates": 5, "alpha": -1.0}
  ]
}'
