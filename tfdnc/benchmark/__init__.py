"""Cost of training methods on this machine, measured side by side, each in a process of its own."""
