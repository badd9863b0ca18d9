"""Lists of users on the page of `tfdnc report`: the slider shows what README's bundle answers at each alpha."""

import json
import os
import re
import shutil

import pytest
from browser import ARROW_DOWN, ARROW_LEFT, ARROW_RIGHT, CSS, errors_of, needs_browser, open_page, titles_in, until

from serving.bundles.in_process import load_bundle
from tfdnc.contracts.features import TIME
from tfdnc.contracts.items import read_items
from tfdnc.operations.run_users import user_of_log
from tfdnc.page.build import write_page
from tfdnc.page.runs import group_runs, read_runs
from tfdnc.page.user_lists import ALPHAS, LENGTH, user_lists


@pytest.fixture(scope="module")
def run(readme_folder):
    return readme_folder / "runs" / "mine"


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "page.html"
    write_page([run], file, users=4)
    return file


@pytest.fixture(scope="module")
def titles(run):
    """Titles of the list of one user, as the bundle answers a question about this user alone."""
    items = read_items(run / "cluster")
    title_of = dict(zip(items.item_ids, items.titles, strict=True))
    with load_bundle(run / "bundle") as bundle:

        def ask(user_id, **controls):
            user = user_of_log(run, items, [TIME], user_id)
            times = {"times": [user.known["history_times"]], "request_time": user.known["request_time"]}
            [answer] = bundle.retrieve([user.history], LENGTH, **times, **controls)
            return [title_of[item] for item in answer.item_ids]

        yield ask


def test_lists_of_a_batch_are_those_of_each_user(report, titles, run):
    content = re.search(r'id="listData">(.*)</script>', report.read_text(encoding="utf-8"))[1]
    [shown] = json.loads(content)["runs"]
    assert len(shown["users"]) == 4
    for user in shown["users"][:2]:
        for merge, argument in (("quota", "alpha"), ("joint", "joint_alpha")):
            for alpha, numbers in list(zip(ALPHAS, user["lists"][merge], strict=True))[::4]:
                assert [shown["items"][number][0] for number in numbers] == titles(user["id"], **{argument: alpha})
    held_out = user_of_log(run, read_items(run / "cluster"), [], shown["users"][0]["id"]).held_out
    assert shown["items"][shown["users"][0]["heldOut"]][0] == f"Thing {held_out.removeprefix('s')}"


def test_a_page_with_lists_loads_nothing(report):
    page = report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|<link|src=|fetch\(", page)


def test_a_bundle_of_another_training_has_no_lists(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "mine")
    for file in (copy / "train" / "manifest.json", copy / "evaluate" / "manifest.json"):
        manifest = json.loads(file.read_text())
        place = manifest if file.parent.name == "train" else manifest["inputs"]["stations"]
        place["fingerprint" if file.parent.name == "train" else "train"] = "newer"
        file.write_text(json.dumps(manifest))
    found = user_lists(group_runs(read_runs([copy])), 4)
    assert not found.runs
    assert "found one of another train" in found.missing[0]


@needs_browser
def test_the_slider_changes_the_list_as_the_merge_would(report, titles):
    browser = open_page(report.as_uri())
    try:
        user_id = browser.find_elements(CSS, "#listUser option")[0].text
        slider = browser.find_element(CSS, "#listAlpha")

        def shown():
            return titles_in(browser, "#listItems li")

        assert shown() == titles(user_id, alpha=1.0)
        slider.send_keys(ALPHAS.index(1.0) * ARROW_LEFT)  # by keyboard
        until(lambda: browser.find_element(CSS, "#listAlphaShown").text == "0.00")
        assert shown() == titles(user_id, alpha=0.0)
        assert len(browser.find_elements(CSS, "#listItems h3")) == 4  # every cluster has a share
        assert browser.find_elements(CSS, "#listItems .tag")  # items that moved
        browser.find_element(CSS, "[name=listMerge][value=joint]").click()
        slider.send_keys(len(ALPHAS) * ARROW_RIGHT)
        assert slider.get_attribute("aria-valuetext") == "alpha 4.00"
        assert shown() == titles(user_id, joint_alpha=4.0)
        browser.find_element(CSS, "#listUser").send_keys(ARROW_DOWN)
        other = browser.find_elements(CSS, "#listUser option")[1].text
        until(lambda: shown() == titles(other, joint_alpha=4.0))
        assert not errors_of(browser)
        if folder := os.environ.get("TFDNC_SCREENSHOTS"):
            for width in (1280, 390):
                browser.set_window_size(width, 1800)
                browser.save_screenshot(f"{folder}/report_{width}.png")
    finally:
        browser.quit()


@needs_browser
def test_the_held_out_item_is_marked(report):
    browser = open_page(report.as_uri())
    try:
        for user in browser.find_elements(CSS, "#listUser option"):
            until(user.is_selected)
            title = browser.find_element(CSS, "#listNext").text.removeprefix("Held out, came next: ")
            marked = [line.text for line in browser.find_elements(CSS, "#listItems li.wanted")]
            found = [name for name in titles_in(browser, "#listItems li") if title.startswith(f"{name} ")]
            assert len(marked) == len(found)
            assert all("came next" in line for line in marked)
            browser.find_element(CSS, "#listUser").send_keys(ARROW_DOWN)
    finally:
        browser.quit()
