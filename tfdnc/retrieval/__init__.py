"""K lists to one: search inside clusters, and the merge."""
