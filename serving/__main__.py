"""`python -m serving --model_base_path=DIR`: the embedded server by itself, with tensorflow_model_server's flags."""

import argparse
import importlib.metadata
import logging
import sys
import typing

from serving import options
from tfdnc.contracts.errors import UserError

if typing.TYPE_CHECKING:
    from serving.server import Server


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Serve SavedModels with TF Serving's API.", allow_abbrev=False
    )
    parser.add_argument("--version", action="store_true", help="print the versions of the server and of TensorFlow")
    options.add_flags(parser)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if arguments.version:
            _print_versions()
        else:
            _serve(options.from_arguments(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _print_versions() -> None:
    import tensorflow as tf

    print(f"TensorFlow ModelServer: the embedded server of tfdnc {importlib.metadata.version('tfdnc')}")
    print(f"TensorFlow Library: {tf.__version__}")


def _serve(chosen: options.ServerOptions) -> None:
    from serving.server import serve  # here: an error in the flags need not wait for TensorFlow's import

    serve(chosen, on_ready=_announce)


def _announce(server: "Server") -> None:
    models = ", ".join(
        f"{name} version {' '.join(map(str, versions))}" for name, versions in server.manager.available().items()
    )
    print(f"Serving {models} on {server.address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
