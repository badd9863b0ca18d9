"""Contracts between stations: config, schema, items, sequences, negatives, errors."""
