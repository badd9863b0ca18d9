"""Simulation: days of a log are played, and ways to bring a model up to date are compared."""
