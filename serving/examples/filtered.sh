#!/bin/sh
# Candidates under rules over REST, with curl: filtered.sh [HOST:PORT]
#
# In stock, at most 20, and not of one brand: `where` has a condition on an attribute of the items each, "" says nothing.
# Known conditions are those of the signature `describe_rules`. `allow` has the only items that may come back, if any.
# retrieve.sh explains the rest; one column of zeros stands for "no bound" of the clusters.
exec curl --silent --show-error --fail-with-body --max-time 10 "http://${1:-127.0.0.1:8501}/v1/models/tfdnc:predict" \
    --header 'Content-Type: application/json' --data '{
  "signature_name": "retrieve_filtered",
  "instances": [
    {"history": ["2858", "260", "1196"], "num_candidates": 10, "alpha": -1.0, "joint_alpha": -1.0,
     "where": ["in_stock=true", "price<=20", "brand!=acme"], "allow": [""], "exclude": [""], "seen": "",
     "cluster_quotas": [0.0], "cluster_min": [0], "cluster_max": [0]}
  ]
}'
