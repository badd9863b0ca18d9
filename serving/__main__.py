"""`python -m serving --model_base_path DIR`: the embedded server by itself, with tensorflow_model_server's flags."""

import argparse
import logging
import sys
from pathlib import Path

from serving import server as embedded
from tfdnc import schema
from tfdnc.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a SavedModel with TF Serving's API.")
    parser.add_argument("--model_base_path", type=Path, required=True, help="folder of numbered versions, or a version")
    parser.add_argument("--model_name", default=schema.MODEL_NAME, help="name that clients ask for (%(default)s)")
    parser.add_argument("--host", default=embedded.DEFAULT_HOST, help="address to bind to (%(default)s)")
    parser.add_argument("--port", type=int, default=embedded.DEFAULT_PORT, help="0 picks a free one (%(default)s)")
    parser.add_argument("--max_workers", type=int, default=None, help="threads that answer (4 per CPU)")
    parser.add_argument("--max_message_bytes", type=int, default=embedded.MAX_MESSAGE_BYTES, help="(%(default)s)")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        embedded.serve(
            args.model_base_path,
            host=args.host,
            port=args.port,
            model_name=args.model_name,
            max_workers=args.max_workers,
            max_message_bytes=args.max_message_bytes,
            on_ready=_announce,
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _announce(server: embedded.Server) -> None:
    models = ", ".join(
        f"{name} version {' '.join(map(str, versions))}" for name, versions in server.manager.available().items()
    )
    print(f"Serving {models} on {server.address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
