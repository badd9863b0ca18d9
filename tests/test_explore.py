"""`tfdnc explore` on README's own run: what the page shows is what the bundle answers a client."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from xml.etree import ElementTree

import pytest
import waitress.server
from browser import ARROW_LEFT, CSS, ENTER, errors_of, needs_browser, open_page, titles_in, until

from tfdnc.explore.app import Application
from tfdnc.explore.picture import draw_lists, fit
from tfdnc.explore.subject import Subject
from tfdnc.operations.item_images import ItemImages

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003"
    "010100c9fe92ef0000000049454e44ae426082"
)
"""One red dot, as PNG."""


@pytest.fixture(scope="module")
def subject(readme_folder):
    made = Subject(readme_folder / "runs" / "mine")
    yield made
    made.bundle.close()


@pytest.fixture(scope="module")
def application(subject):
    return Application([subject])


@pytest.fixture
def ask(application):
    """Sends one request to the application; returns the status and what the JSON says."""

    def ask(path, body=None, host="localhost:8600", query=""):
        content = b"" if body is None else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": "GET" if body is None else "POST",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_HOST": host,
            "CONTENT_LENGTH": str(len(content)),
            "wsgi.input": io.BytesIO(content),
        }
        started = []
        answer = b"".join(application(environ, lambda status, headers: started.append((status, dict(headers)))))
        [(status, headers)] = started
        ask.headers = headers
        if headers["Content-Type"].startswith("image/"):
            return int(status.split()[0]), answer
        is_json = headers["Content-Type"] == "application/json"
        return int(status.split()[0]), json.loads(answer) if is_json else answer.decode()

    return ask


@pytest.fixture(scope="module")
def user(subject):
    return subject.user(subject.user_ids[0])


@pytest.mark.parametrize(
    ("asked", "controls"),
    [
        ({}, {}),
        ({"merge": "quota", "alpha": 0.5}, {"alpha": 0.5}),
        ({"merge": "joint", "alpha": 2}, {"joint_alpha": 2}),
    ],
)
def test_a_list_is_what_the_bundle_answers(ask, subject, user, asked, controls):
    status, said = ask("/api/list", {"user": user.name, "count": 20, **asked})
    times = {"times": [user.known["history_times"]], "request_time": user.known["request_time"]}
    [answer] = subject.bundle.retrieve([user.history], 20, **times, **controls)
    assert status == 200
    assert [item["id"] for item in said["items"]] == answer.item_ids
    assert [item["cluster"] for item in said["items"]] == answer.cluster_ids.tolist()
    assert said["counts"] == answer.quotas.tolist()
    assert said["heldOut"] == user.held_out


def test_a_typed_history_has_minima_and_items_that_are_left_out(ask, subject):
    least = subject.items.cluster_names[1]
    history = subject.items.item_ids[:3]
    _, first = ask("/api/list", {"history": history, "count": 10})
    out = first["items"][0]["id"]
    _, second = ask("/api/list", {"history": history, "count": 10, "minimum": {least: 4}, "exclude": [out]})
    assert out not in [item["id"] for item in second["items"]]
    assert second["counts"][1] >= 4
    assert second["heldOut"] is None


def test_items_of_the_history_may_come_back(ask, user):
    _, without = ask("/api/list", {"user": user.name, "count": 50})
    _, with_them = ask("/api/list", {"user": user.name, "count": 50, "seen": "allow"})
    assert not set(user.history) & {item["id"] for item in without["items"]}
    assert set(user.history) & {item["id"] for item in with_them["items"]}


def test_items_are_found_by_words_and_by_vectors(ask, subject):
    first, second = subject.items.item_ids[:2]
    title = subject.items.titles[0]
    assert first in [item["id"] for item in ask("/api/items", query=f"q={title.lower()}")[1]]
    assert ask("/api/items", query="q=%20")[1] == []
    near = ask("/api/neighbours", query=f"item={second}")[1]
    assert [item["cosine"] for item in near] == sorted((item["cosine"] for item in near), reverse=True)
    assert second not in [item["id"] for item in near]
    assert ask("/api/neighbours", query="item=unheard")[1] == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/api/list", {"count": 0}, "count: Input should be greater than or equal to 1"),
        ("/api/list", {"wish": 1}, "wish: Extra inputs are not permitted"),
        ("/api/list", {"run": 1}, "Expected a run from 0 to 0, got 1"),
        ("/api/list", {"user": "unheard"}, "has no user 'unheard'"),
        ("/api/list", {"count": 10**6}, "num_candidates"),
        ("/api/list", {"minimum": {"unheard": 1}}, "unheard"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(ask, path, body, message):
    status, said = ask(path, body)
    assert status == 400
    assert message in said["error"]


def test_only_this_machine_is_answered(ask):
    """Another site could reach the page under a name of its own that leads to this machine."""
    assert ask("/", host="evil.example:8600")[0] == 403
    assert ask("/", host="127.0.0.1:8600")[0] == 200
    assert ask("/api/nothing")[0] == 404


@pytest.fixture
def pictures(subject, user, monkeypatch, tmp_path):
    """Pictures of three items of the user's history: a file, a file outside of the folder, and an address."""
    inside, outside, elsewhere = list(dict.fromkeys(reversed(user.history)))[:3]
    (tmp_path / "shop").mkdir()
    for name in ("shop/red shoe.png", "secret.png"):
        (tmp_path / name).write_bytes(PICTURE)
    named = {inside: "red shoe.png", outside: "../secret.png", elsewhere: 'https://pictures.example/1.png?a=1&b="x'}
    monkeypatch.setattr(subject, "images", ItemImages(named, tmp_path / "shop"))
    return inside, outside, elsewhere


def test_pictures_are_files_below_the_folder_of_the_items_or_addresses(ask, subject, user, pictures):
    inside, outside, elsewhere = pictures
    _, said = ask("/api/user", query=f"id={user.name}")
    addresses = {item["id"]: item["image"] for item in said["history"]}
    assert addresses[inside] == f"/image?run=0&item={inside}"
    assert addresses[elsewhere] == 'https://pictures.example/1.png?a=1&b="x'
    assert {address for item, address in addresses.items() if item not in pictures} == {None}
    assert ask("/image", query=f"run=0&item={inside}") == (200, PICTURE)
    assert ask.headers["Content-Type"] == "image/png"
    for item in (outside, elsewhere, "unheard", "../secret.png"):
        assert ask("/image", query=f"run=0&item={item}")[0] == 404
    assert ask("/image", query=f"run=0&item={inside}", host="evil.example")[0] == 403
    ask("/")
    assert "img-src 'self' http: https:" in ask.headers["Content-Security-Policy"]


def test_without_addresses_the_page_loads_nothing_from_elsewhere(ask):
    ask("/")
    assert ask.headers["Content-Security-Policy"].endswith("img-src 'self'")


def test_a_picture_has_the_lists_of_the_bundle(subject, user):
    picture = ElementTree.fromstring(draw_lists(subject, user.name, [0.0, 2.0], length=8))
    texts = [text.text for text in picture.iterfind(".//{*}text[@class='text']")]
    times = {"times": [user.known["history_times"]], "request_time": user.known["request_time"]}
    answers = [subject.bundle.retrieve([user.history], 8, alpha, **times)[0] for alpha in (0.0, 2.0)]
    assert texts == [subject.show(item)["title"] for answer in answers for item in answer.item_ids]
    shown = " ".join(text.text for text in picture.iterfind(".//{*}text"))
    assert "alpha 0 4 clusters in the list" in shown
    assert f"{subject.show(user.held_out)['title']} came next" in shown
    assert set(subject.items.cluster_names) <= {text.text for text in picture.iterfind(".//{*}text[@class='small']")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Alien", "Alien"), ("W" * 30, "W" * 8 + "…"), ("i" * 20, "i" * 20), ("日本" * 9, "日本" * 4 + "…"), ("", "")],
)
def test_titles_are_cut_to_the_width_of_a_column(text, shown):
    assert fit(text, 9) == shown


@pytest.fixture(scope="module")
def page(subject):
    """A headless browser on the page, and its address."""
    server = waitress.server.create_server(Application([subject, subject]), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    subject.start_map()
    browser = open_page(f"http://127.0.0.1:{server.effective_port}/")
    yield browser
    browser.quit()
    server.close()


def items_of(browser, panel):
    return titles_in(browser, f".panel:nth-of-type({panel + 1}) .list li")


def test_an_interrupt_ends_it_without_a_traceback(readme_folder):
    """Ctrl-C is the way to end it, also while the map is being computed."""
    command = [sys.executable, "-m", "tfdnc.cli.main", "explore", str(readme_folder / "runs" / "mine"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("http://127.0.0.1:" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode in (0, 130)
    assert "Traceback" not in errors


@needs_browser
def test_the_slider_changes_the_list_as_a_client_would(page, subject):
    until(lambda: len(items_of(page, 0)) == 50 and len(items_of(page, 1)) == 50)
    user = subject.user(page.find_element(CSS, "#user").get_property("value"))
    assert items_of(page, 0) == items_of(page, 1)
    panel = page.find_elements(CSS, ".panel")[1]
    slider = panel.find_element(CSS, "[data-name=alpha]")
    for _ in range(10):  # by keyboard: twenty steps of .05 down from 1
        slider.send_keys(2 * ARROW_LEFT)
    until(lambda: panel.find_element(CSS, "[data-name=alphaShown]").text == "0.00")
    times = {"times": [user.known["history_times"]], "request_time": user.known["request_time"]}
    [answer] = subject.bundle.retrieve([user.history], 50, 0.0, **times)
    titles = [subject.show(item)["title"] for item in answer.item_ids]
    until(lambda: items_of(page, 1) == titles)
    assert panel.find_elements(CSS, ".list .tag")  # items that moved against the first list
    assert not page.find_element(CSS, "#error").is_displayed()
    until(lambda: "most frequent items" in page.find_element(CSS, "#mapHint").text)
    assert not errors_of(page)
    if folder := os.environ.get("TFDNC_SCREENSHOTS"):
        page.save_screenshot(f"{folder}/wide.png")
        page.set_window_size(420, 1800)
        page.save_screenshot(f"{folder}/narrow.png")


@needs_browser
def test_an_item_is_shown_with_its_place_score_and_cluster(page, ask):
    panel = page.find_elements(CSS, ".panel")[0]
    user = page.find_element(CSS, "#user").get_property("value")
    said = ask("/api/list", {"user": user, "count": 50})[1]["items"][0]
    clusters = ask("/api/start")[1]["runs"][0]["clusters"]
    panel.find_element(CSS, "[data-name=grouped]").click()  # one list, without headings
    until(lambda: not panel.find_elements(CSS, ".list h3"))
    first = panel.find_element(CSS, ".list li")
    assert first.get_property("value") == 1
    assert f"{clusters[said['cluster']]} score {said['score']:.4f}" in first.text
    panel.find_element(CSS, "[data-name=grouped]").click()
    until(lambda: panel.find_elements(CSS, ".list h3"))


@needs_browser
def test_neighbours_and_map_are_those_of_the_run_of_a_list(page):
    """Items of the second list were looked up in the first run, and the map showed nothing else."""
    page.execute_script("performance.clearResourceTimings()")  # the browser keeps the first 250 requests only
    second = page.find_elements(CSS, ".panel")[1]
    second.find_element(CSS, ".list li button[aria-label^='Items similar']").click()
    until(lambda: page.find_elements(CSS, "#neighbours li"))
    page.find_element(CSS, "#mapOf [value='1']").click()
    wanted = ("/api/neighbours?run=1&item=", "/api/map?run=1")
    names = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    until(lambda: all(any(one in name for name in page.execute_script(names)) for one in wanted))


@needs_browser
def test_the_map_is_read_with_the_keyboard(page):
    until(lambda: "most frequent items" in page.find_element(CSS, "#mapHint").text)
    canvas = page.find_element(CSS, "#map")
    canvas.send_keys("++" + ARROW_LEFT)
    assert page.execute_script("return view.scale") > 2
    assert re.match(r"Thing \d+ . Department", page.find_element(CSS, "#mapItem").text)


@needs_browser
def test_on_a_phone_the_slider_stays_beside_the_list(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        wide = "return document.documentElement.scrollWidth"
        assert page.execute_script(wide) == 390
        last = page.find_elements(CSS, ".panel:nth-of-type(1) .list li")[-1]
        page.execute_script("arguments[0].scrollIntoView({block: 'end'})", last)
        slider = page.find_element(CSS, ".panel:nth-of-type(1) .slider")
        assert 0 <= page.execute_script("return arguments[0].getBoundingClientRect().top", slider) < 400
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_pictures_stand_beside_their_items(page, pictures, user):
    field = page.find_element(CSS, "#user")
    field.clear()
    field.send_keys(user.name + ENTER)
    until(lambda: page.find_elements(CSS, f"#history img[src$='item={pictures[0]}']"))
    shown = page.find_element(CSS, f"#history img[src$='item={pictures[0]}']")
    page.execute_script("arguments[0].scrollIntoView()", shown)
    until(lambda: shown.get_property("naturalWidth") == 1)
    assert shown.get_attribute("alt") == f"Picture of Thing {pictures[0].removeprefix('s')}"
    assert shown.get_attribute("loading") == "lazy"
    until(lambda: not page.find_elements(CSS, f"#history img[src$='item={pictures[1]}']"))  # no such file, no frame
