"""Pictures of items that the item file names: addresses on the web, or files below its own folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from beam_jobs.item_accounts import ItemAccounts
from beam_jobs.item_details import find_columns, read_rows
from tfdnc.contracts.data_config import DataConfig

TYPES = {
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""Ending of a file that may be shown -> its media type. An SVG is a document with scripts, and is not."""


class ItemImages:
    """Pictures by item id.

    Args:
        named: Item id -> what the item file says: an address with http or https, or a path.
        folder: Folder of the item file, to which paths are relative; None if it is not on this machine.
    """

    def __init__(self, named: Mapping[str, str], folder: Path | None) -> None:
        self._addresses = {item: text for item, text in named.items() if _is_address(text)}
        self._folder = None if folder is None else folder.resolve()
        local = {} if folder is None else {item: text for item, text in named.items() if item not in self._addresses}
        self._paths = {item: text for item, text in local.items() if Path(text).suffix.lower() in TYPES}

    @property
    def from_elsewhere(self) -> bool:
        """Tells whether any picture is an address on the web."""
        return bool(self._addresses)

    def address(self, item_id: str) -> str | None:
        """Returns the address of a picture on the web."""
        return self._addresses.get(item_id)

    def is_file(self, item_id: str) -> bool:
        """Tells whether the picture of an item is named as a file; it need not exist."""
        return item_id in self._paths

    def file(self, item_id: str) -> Path | None:
        """Returns the file of a picture; None if there is none below the folder, after links are followed."""
        if self._folder is None or item_id not in self._paths:
            return None
        try:
            path = (self._folder / self._paths[item_id]).resolve()
            found = path.is_relative_to(self._folder) and path.suffix.lower() in TYPES and path.is_file()
        except (OSError, RuntimeError, ValueError):  # a name that no file can have, or a circle of links
            return None
        return path if found else None


def read_item_images(data: DataConfig, item_ids: Sequence[str]) -> ItemImages:
    """Reads the column `data.items.image` of the item file; without one there are no pictures.

    Raises:
        UserError: The file cannot be read, lacks the column, or describes none of the items.
    """
    if data.items is None or data.items.image is None:
        return ItemImages({}, None)
    details = find_columns(data.items, {data.items.image: "value"}, "data.items.image")
    rows = read_rows(details, list(item_ids), False, ItemAccounts())
    named = {item: row[0].strip() for item, row in rows.items() if row and isinstance(row[0], str) and row[0].strip()}
    return ItemImages(named, Path(details.file.path).parent if details.file.local else None)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
