"""`tfdnc publish`: verifies a bundle, and copies it into a model base path that servers watch."""

import argparse
from pathlib import Path
from typing import Any

from tfdnc.cli import label, screen, shared_flags
from tfdnc.cli.flag_types import count
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle, the base path, the number of the version, and conditions."""
    shared_flags.add_bundle(parser)
    parser.add_argument("base_path", type=Path, metavar="MODEL_BASE_PATH", help="made if it is not there")
    parser.add_argument("--version", type=count, help="number of the version (default: one above the highest)")
    parser.add_argument("--keep", type=count, metavar="N", help="leave N versions, remove the oldest (default: all)")
    parser.add_argument("--reason", help="kept in the record of the version")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="CONDITION",
        help="publish only if this holds on --log, such as 'recall@50 >= 0.98 * current'; may be given several times",
    )
    shared_flags.add_questions(parser, required=False)
    parser.add_argument(
        "--warm-up",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="add requests of this request log to those that a server replays after loading the version",
    )
    parser.add_argument("--warm-up-requests", type=count, default=100, metavar="N", help="how many (default: 100)")
    label.add_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Copies the latest version of a bundle into a model base path, if it is verified and meets all conditions."""
    from serving.bundles.publish import latest, publish
    from serving.bundles.verify import find_version
    from serving.bundles.warm_up_requests import add_logged_requests
    from tfdnc.cli.verification import check_version

    label.check_flags(arguments)
    held = label.listed_versions(arguments)
    source = find_version(arguments.bundle)
    note = {"reason": arguments.reason} if arguments.reason else {}
    current = latest(arguments.base_path) if arguments.base_path.is_dir() else None
    if arguments.require:
        note |= _require(arguments, source, current)

    def finish(copy: Path) -> None:
        if arguments.warm_up:
            add_logged_requests(copy, arguments.warm_up, arguments.warm_up_requests)
        check_version(source, copy)

    final = publish(source, arguments.base_path, finish, arguments.version, arguments.keep, note, held)
    screen.console.print(f"Published {source} as {final}", soft_wrap=True)
    label.move_to(arguments, int(final.name))


def _require(arguments: argparse.Namespace, source: Path, current: int | None) -> dict[str, Any]:
    """Returns the entries of the record about the conditions; raises a `UserError` if one does not hold."""
    from serving.bundles import conditions
    from serving.bundles.bundle import versions_in
    from tfdnc.cli.version_figures import compare_versions, show

    wanted = [conditions.parse(text) for text in arguments.require]
    if not arguments.log and not arguments.requests:
        raise UserError(
            "Expected --log or --requests with --require: the conditions are about lists for the users of a log."
        )
    if current is None:
        line = f"No version is in {arguments.base_path} yet: there is nothing to compare with."
        screen.console.print(line, soft_wrap=True)
        return {"conditions": []}
    old = versions_in(arguments.base_path)[current]
    cutoffs = [condition.cutoff for condition in wanted if condition.cutoff]
    with last_log_line("compare"):
        found = compare_versions(old, source, arguments, cutoffs or [10])
    show(found, f"version {current}", "new")
    checked = [conditions.check(condition, found) for condition in wanted]
    failed = [
        f"{one.condition.text} (it is {one.value:.4g}, the bound {one.bound:.4g})" for one in checked if not one.holds
    ]
    if failed:
        raise UserError(f"{source} is not published, because these conditions do not hold: {'; '.join(failed)}.")
    about = [{"condition": one.condition.text, "value": one.value, "bound": one.bound} for one in checked]
    return {"compared_with": current, "conditions": about}
