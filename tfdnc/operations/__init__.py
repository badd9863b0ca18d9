"""The daily life of a model: comparing versions of its bundle on new events."""
