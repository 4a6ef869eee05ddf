"""A real browser on the live Airflow, and measurements of a page in it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect, sync_playwright

from airflow_provider_vocalsep.ui.mount import PAGE_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Frame, Page

    from airflow_provider_vocalsep.demo.airflow_stack import AirflowStack

#: Names under which distributions install it.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Text whose contrast with its background is below 4.5 (WCAG 2.1, 1.4.3), with the contrast.
_TOO_FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  function painted(...colors) {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data];
  }
  function luminance([r, g, b]) {
    const linear = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }
  function behind(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    return layers;
  }
  const faint = {};
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, .skip, :disabled")) continue;
    const layers = behind(element);
    const colors = [painted(...layers, getComputedStyle(element).color), painted(...layers)];
    const [text, ground] = colors.map(luminance);
    const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (contrast < 4.5) faint[element.textContent.trim().slice(0, 40)] = contrast;
  }
  return faint;
}"""

_DRAWN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let lines = 0;
  for (let y = 0; y < canvas.height; y++) {
    let inked = false;
    for (let x = 0; x < canvas.width; x++) inked ||= data[(y * canvas.width + x) * 4 + 3] > 0;
    lines += inked;
  }
  return lines / canvas.height;
}"""


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run Chromium without a window until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """
    Somebody with a browser.

    :param browser: The browser.
    :param airflow: Where they go.
    """

    def __init__(self, browser: Browser, airflow: AirflowStack) -> None:
        self.airflow = airflow
        self.page: Page = browser.new_context(
            viewport={"width": 1280, "height": 800}, color_scheme="light"
        ).new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        # Airflow's own UI complains about things of its own.
        if message.type == "error" and PAGE_PATH in message.location.get("url", ""):
            self.errors.append(f"{message.text} {message.location}")

    def log_in(self) -> None:
        """Log in by Airflow's form."""
        self.page.goto(self.airflow.url)
        self.page.locator("input[name=username]").fill(self.airflow.username)
        self.page.locator("input[name=password]").fill(self.airflow.password)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("button", name="Browse")).to_be_visible(timeout=30_000)

    def open_from_menu(self) -> Frame:
        """Open our page from Airflow's menu, and return its frame."""
        self.page.get_by_role("button", name="Browse").click()
        self.page.get_by_role("menuitem", name="Vocal separation").click()
        return self.frame()

    def frame(self) -> Frame:
        """Return the frame of our page once it is loaded."""
        frame = self.page.wait_for_selector(f"iframe[src*='{PAGE_PATH.strip('/')}']").content_frame()
        assert frame is not None
        expect(frame.locator("main")).not_to_have_attribute("aria-busy", "true", timeout=15_000)
        return frame

    def open(self, path: str) -> Page:
        """Open our page outside of Airflow's frame."""
        self.page.goto(f"{self.airflow.url}{PAGE_PATH}/{path}")
        expect(self.page.locator("main")).not_to_have_attribute("aria-busy", "true", timeout=15_000)
        return self.page


def too_faint(page: Page | Frame) -> dict[str, float]:
    """Return texts with too little contrast, and the contrast."""
    return page.evaluate(_TOO_FAINT)


def is_wider_than_its_window(page: Page | Frame) -> bool:
    """Return whether the page scrolls sideways."""
    return page.evaluate("document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth")


def drawn_height(page: Page | Frame, stem: str) -> float:
    """Return the share of a waveform's height that is drawn on: almost none for a flat line."""
    return page.locator(f"[data-stem={stem}] canvas").evaluate(_DRAWN)
