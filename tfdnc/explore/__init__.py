"""A local page to play with: users, lists and items of runs, answered by their bundles in this process."""
