"""Training, from records to a checkpoint: reading, batching, `model.fit`, and resuming a killed run."""
