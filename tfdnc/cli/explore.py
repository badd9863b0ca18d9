"""`tfdnc explore`: a local page to play with the lists of one run, or of two side by side."""

import argparse
from pathlib import Path

from tfdnc.cli import screen
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the runs, and the port."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one or two folders of runs with a bundle")
    parser.add_argument("--port", type=int, default=8600, help="of the page, 0 for a free one (default: 8600)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser of this machine")


def run(arguments: argparse.Namespace) -> None:
    """Serves the page on this machine only, until it is interrupted."""
    if len(arguments.runs) > 2:
        raise UserError(f"Expected one or two runs to explore, got {len(arguments.runs)}.")
    with last_log_line("explore"):
        from tfdnc.explore.app import Application
        from tfdnc.explore.subject import Subject

        subjects = [Subject(run, number) for number, run in enumerate(arguments.runs)]
        for subject in subjects:
            subject.warm_up()
    import waitress.server

    try:
        server = waitress.server.create_server(Application(subjects), host="127.0.0.1", port=arguments.port, threads=4)
    except OSError as error:
        raise UserError(f"Expected port {arguments.port} to be free: {error}. Name another one with --port.") from error
    for subject in subjects:
        subject.start_map()
    address = f"http://127.0.0.1:{server.effective_port}/"
    screen.console.print(f"Explore {', '.join(map(str, arguments.runs))} at {address} (Ctrl-C ends it)", soft_wrap=True)
    if arguments.open:
        import webbrowser

        webbrowser.open(address)
    server.run()
