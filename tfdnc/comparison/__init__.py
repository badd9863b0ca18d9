"""Methods side by side: a grid of configs and seeds is run to its end, and what came out is put into tables."""
