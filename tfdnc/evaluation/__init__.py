"""How good the retrieved lists are, and how they are spread over the clusters."""
