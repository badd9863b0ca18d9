"""The embedded server that speaks TF Serving's API, and its client; nothing here imports training code."""
