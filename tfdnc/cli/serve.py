"""`tfdnc serve`: the embedded server of a bundle."""

import argparse
import logging
from pathlib import Path

from serving import options as server_flags
from tfdnc.cli import screen
from tfdnc.contracts.bundle import MODEL_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle, and the flags of the server except those for several models."""
    parser.add_argument("bundle", type=Path, help="folder with numbered versions, such as runs/NAME/bundle")
    # The user waits for this server, so a bundle that cannot be loaded is reported without five minutes of retries.
    of_many_models = {"model_config_file": None, "model_config_file_poll_wait_seconds": None}
    server_flags.add_flags(
        parser, model_base_path=None, model_name=MODEL_NAME, max_num_load_retries=0, **of_many_models
    )


class _VersionLines(logging.Handler):
    """Prints the lines about versions that come and go; warnings and errors have a way of their own."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            screen.console.print(record.getMessage(), soft_wrap=True)


def run(arguments: argparse.Namespace) -> None:
    """Serves until it is interrupted."""
    options = server_flags.from_arguments(arguments, model_base_path=arguments.bundle)
    from serving.server import Server, serve

    if not arguments.verbose:  # which shows these lines among all others
        log = logging.getLogger("serving.manager")
        log.setLevel(logging.INFO)
        log.addHandler(_VersionLines())

    def announce(server: Server) -> None:
        line = f"Serving {options.model_name} from {options.model_base_path} at {server.address}"
        screen.console.print(line, soft_wrap=True)

    serve(options, on_ready=announce)
