"""The stations, and the engine that runs, skips, adopts and resumes them."""
