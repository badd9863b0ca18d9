"""Quality of the retrieved lists, and their spread over the clusters."""
