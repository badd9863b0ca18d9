"""Pictures that an item file names: what is an address, what is a file, and what is neither."""

import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.operations.item_images import ItemImages, read_item_images
from tfdnc.pipeline.dependencies import sections


def data_of(file, **more):
    items = {"path": str(file), "item": "sku", **more}
    return parse_config({"name": "x", "data": {"path": "log.csv", "items": items}}, "the test").data


@pytest.fixture
def shop(tmp_path):
    """A folder with pictures, beside files that must not be shown."""
    folder = tmp_path / "shop"
    (folder / "deep").mkdir(parents=True)
    for name in ("shop/a.png", "shop/deep/b.JPG", "shop/notes.txt", "shop/drawing.svg", "secret.png", "shop2.png"):
        (tmp_path / name).write_text("x")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (folder / "notes.png").symlink_to(folder / "notes.txt")
    return folder


def test_a_file_is_shown_only_from_below_the_folder(shop):
    def found(name):
        images = ItemImages({"i": name}, shop)
        return images.file("i")

    assert found("a.png") == shop / "a.png"
    assert found("deep/b.JPG") == shop / "deep" / "b.JPG"
    assert found("deep/../a.png") == shop / "a.png"
    assert found(str(shop / "a.png")) == shop / "a.png"
    for name in ("../secret.png", "deep/../../secret.png", "out.png", str(shop.parent / "secret.png"), "../shop2.png"):
        assert found(name) is None, name
    for name in (
        "notes.txt",
        "drawing.svg",
        "notes.png",
        "circle.png",
        "deep",
        "missing.png",
        "\0.png",
        5000 * "a" + ".png",
    ):
        assert found(name) is None, name


def test_addresses_have_http_or_https(shop):
    named = (
        "https://a.example/1.png",
        "HTTP://a.example/x",
        "javascript:alert(1)//.png",
        "data:image/png,x",
        "//a.example/1.png",
        "https:///1.png",
    )
    images = ItemImages({text: text for text in named}, shop)
    assert [text for text in named if images.address(text)] == list(named[:2])
    assert not any(images.file(text) for text in named)
    assert images.from_elsewhere
    assert not ItemImages({"i": "a.png"}, shop).from_elsewhere


def test_the_column_of_the_item_file_is_read(shop):
    file = shop / "items.csv"
    file.write_text("sku,photo\ns1,a.png\ns2,\ns3, https://a.example/3.png \n")
    images = read_item_images(data_of(file, image="photo"), ["s1", "s2", "s3", "s4"])
    assert images.file("s1") == shop / "a.png"
    assert images.address("s3") == "https://a.example/3.png"
    assert not any((images.is_file(item), images.address(item)) != (False, None) for item in ("s2", "s4"))
    assert not read_item_images(data_of(file), ["s1"]).is_file("s1")
    with pytest.raises(UserError, match=r"picture.*set data\.items\.image"):
        read_item_images(data_of(file, image="picture"), ["s1"])


def test_pictures_make_no_station_stale(shop):
    config = parse_config({"name": "x", "data": {"path": "l", "items": {"path": "i", "item": "sku"}}}, "the test")
    with_images = config.model_copy(update={"data": data_of("i", image="photo")})
    assert sections("data")(config) == sections("data")(with_images)
