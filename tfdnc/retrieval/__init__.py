"""Retrieval: search inside each of K clusters, and the merge of the K lists into one."""
