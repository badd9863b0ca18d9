"""The two Beam jobs: interaction log -> sequences, and sequences + clusters -> training records.

No module here imports TensorFlow or a model, so a worker starts in milliseconds.
"""
