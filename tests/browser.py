"""A headless browser for the pages, where this machine has one."""

import shutil
import time

import pytest

CSS = "css selector"
ARROW_LEFT, ARROW_RIGHT, ARROW_DOWN, ENTER = "\ue012", "\ue014", "\ue015", "\ue007"

_BROWSER, _DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
_SECONDS = 60

needs_browser = pytest.mark.skipif(not (_BROWSER and _DRIVER), reason="needs chromium and chromedriver")


def open_page(address):
    """A browser on a page; `quit` ends it."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = _BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1800"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(_DRIVER))
    browser.get(address)
    return browser


def titles_in(browser, selector):
    """Titles of the items of a list on the page, in the order of their places."""
    script = """return [...document.querySelectorAll(arguments[0])].map(line =>
        [line.value, [...line.childNodes].find(node => node.nodeType === Node.TEXT_NODE).textContent])"""
    return [title for _, title in sorted(browser.execute_script(script, selector))]


def until(condition):
    """Waits for a condition; fails after a minute."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def errors_of(browser):
    """Errors that the page has written to the console."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
