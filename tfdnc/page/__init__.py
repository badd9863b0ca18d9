"""One self-contained HTML page that reports one or several runs."""
