#!/bin/sh
# Candidates under bounds over REST, with curl: bounded.sh [HOST:PORT]
#
# At least 2 results of one country, at most 3 of one brand, and at most 5 of each other brand. `bounds` has counts of
# results with a value of an attribute, "" says nothing. filtered.sh explains the rest.
exec curl --silent --show-error --fail-with-body --max-time 10 "http://${1:-127.0.0.1:8501}/v1/models/tfdnc:predict" \
    --header 'Content-Type: application/json' --data '{
  "signature_name": "retrieve_bounded",
  "instances": [
    {"history": ["2858", "260", "1196"], "num_candidates": 10, "alpha": -1.0, "joint_alpha": -1.0,
     "bounds": ["country=local>=2", "brand=acme<=3", "brand=*<=5"],
     "where": [""], "allow": [""], "exclude": [""], "seen": "",
     "cluster_quotas": [0.0], "cluster_min": [0], "cluster_max": [0]}
  ]
}'
