"""Bundles: record, replay, verify, compare, publish."""
