"""Templates of all pages: filled with escaped text, written as one file."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.version import __version__
from tfdnc.page.chart import COLORS


def fill(template: str, **values: object) -> str:
    """Returns a page as HTML; every name and title in it is escaped.

    Args:
        template: Name of a file in `templates`.
        **values: Variables of the template, beside the version, the day and the number of colours.
    """
    environment = Environment(
        loader=PackageLoader("tfdnc.page"),
        autoescape=True,  # titles are data, and may contain any character
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return environment.get_template(template).render(version=__version__, today=today, colors=COLORS, **values)


def write_text(page: str, output: Path) -> None:
    """Writes a page.

    Raises:
        UserError: The page cannot be written.
    """
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"Expected to write the page to {output}: {error}; name another file.") from error
