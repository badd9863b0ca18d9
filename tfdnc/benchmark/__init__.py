"""What methods cost on this machine: measured side by side, each in a process of its own."""
