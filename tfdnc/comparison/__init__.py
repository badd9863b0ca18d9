"""Comparison of methods: runs a grid of configs and seeds, and makes tables of the results."""
