"""`workbench show` as a class meets it: real Voilà, real Chromium, a kernel a visitor."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit

import psutil
import pytest
from playwright.sync_api import expect

#: ms. A kernel imports torch, and three do so at once.
KERNEL_TIMEOUT = 180_000
#: s; only a process that does not end takes that long.
END_TIMEOUT = 120
KERNEL_ID = "() => JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
#: JavaScript: what of the page's colours depends on the theme.
COLOURS = """() => [document.body.dataset.jpThemeLight,
  getComputedStyle(document.querySelector('#rendered_cells')).backgroundColor,
  getComputedStyle(document.querySelector('.wblab')).color]"""


class Visitor:
    """A browser of its own on the page."""

    def __init__(self, chromium, **options) -> None:
        self.context = chromium.new_context(viewport={"width": 1100, "height": 900}, **options)
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.errors: list[str] = []
        self.open_tab()

    def open_tab(self) -> None:
        """A tab that is watched from its first request."""
        self.page = self.context.new_page()
        self.page.set_default_timeout(KERNEL_TIMEOUT)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)

    def go(self, url: str) -> None:
        """Open the page, and do not wait for its kernel."""
        self.page.goto(url, wait_until="commit")

    @property
    def kernel(self) -> str:
        """Id of the kernel that this visitor was given."""
        expect(self.start).to_be_visible(timeout=KERNEL_TIMEOUT)
        return self.page.evaluate(KERNEL_ID)

    @property
    def start(self):
        """The panel's button that starts a run."""
        return self.page.get_by_role("button", name="Play", exact=True)

    @property
    def temperature(self):
        """The box with T as a number."""
        return self.page.get_by_role("textbox", name="Temperature T, as a number", exact=True)

    @property
    def ended(self):
        """What the page says when its kernel is gone."""
        return self.page.locator("#workbench-ended")

    def assert_stayed_here(self) -> None:
        """Nothing was asked of another machine, nor kept from asking by the page's policy."""
        hosts = {urlsplit(url).hostname for url in self.requests if re.match("http|ws", url)}
        assert hosts == {"127.0.0.1"}
        assert self.refused == []
        assert self.errors == []

    def _listen(self, message) -> None:
        if "Content Security Policy" in message.text:
            self.refused.append(message.text)


@pytest.fixture
def visitor(chromium):
    """Makes visitors, and sends them away at the end."""
    come: list[Visitor] = []

    def make(**options) -> Visitor:
        come.append(Visitor(chromium, **options))
        return come[-1]

    yield make
    for one in come:
        one.context.close()


@pytest.fixture(scope="module")
def two_places(show):
    return show("protgpt2-tiny;T=4", "--visitors=2")


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def test_nothing_without_the_token(two_places, visitor):
    stranger = visitor()
    root = two_places.url.partition("?")[0]
    for url in (root, f"{root}?token=wrong", f"{root}?link=protgpt2-tiny"):
        assert stranger.page.goto(url).status == 403
        expect(stranger.page.get_by_role("heading")).to_have_text("The token is missing")
    for path in ("login", "api/kernels", "page.ipynb", "voila/files/x.png"):
        assert status(f"{root}{path}") == 403
    # Another name for 127.0.0.1 is how a foreign page would get at this one.
    assert status(two_places.url, Host="elsewhere.example") == 403
    assert two_places.kernels() == []
    stranger.assert_stayed_here()


def test_a_tab_closed_while_its_kernel_starts_ends_it(two_places, visitor):
    hasty = visitor()
    hasty.go(two_places.url)
    hasty.page.locator("#jupyter-config-data").wait_for(state="attached")
    (kernel,) = two_places.kernels()
    hasty.page.close(run_before_unload=True)
    kernel.wait(timeout=END_TIMEOUT)
    assert two_places.kernels() == []


def test_a_visitor_has_a_kernel_and_one_too_many_waits(two_places, visitor):
    first, second, third = visitor(color_scheme="light"), visitor(color_scheme="dark"), visitor()
    first.go(two_places.url)
    expect(first.page.get_by_role("status")).to_have_text("Starting a kernel …")
    second.go(f"{two_places.url}&link={quote('distilbert-pmhc;T=2;alpha=0.5')}")
    assert first.kernel != second.kernel
    expect(first.page).to_have_title("Distillation workbench: protgpt2-tiny;T=4")
    expect(first.temperature).to_have_value("4")
    expect(second.temperature).to_have_value("2")
    assert first.page.evaluate(COLOURS) == ["true", "rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert second.page.evaluate(COLOURS) == ["false", "rgb(17, 17, 17)", "rgb(255, 255, 255)"]
    processes = two_places.kernels()
    assert len(processes) == 2

    answer = third.page.goto(two_places.url)
    assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
    expect(third.page.get_by_role("heading")).to_have_text("The page is full")
    expect(third.page.locator("main")).to_contain_text("2 visitors are here")
    assert two_places.kernels() == processes

    # The kernel lives: it answers a hand on the slider's box.
    first.temperature.fill("8")
    first.temperature.press("Tab")
    expect(first.page.locator(".wblab")).to_contain_text("at T=8", timeout=KERNEL_TIMEOUT)

    (left,) = (p for p in processes if second.kernel in " ".join(p.cmdline()))
    second.page.close(run_before_unload=True)
    assert left.wait(timeout=END_TIMEOUT) is None  # not our child, so no status
    # A place is free, and the page that was full takes it by itself.
    third.kernel  # noqa: B018
    for one in (first, second, third):
        one.assert_stayed_here()

    # Who loads the page again keeps the place, with a new kernel.
    before = first.kernel
    first.page.reload(wait_until="commit")
    assert first.kernel != before
    assert len(two_places.kernels()) == 2

    # A phone says no more than that the page is hidden for good.
    third.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    expect(third.ended).to_be_visible(timeout=KERNEL_TIMEOUT)
    expect(first.ended).to_be_hidden()

    # The server takes its kernels with it, and all that was written.
    processes = two_places.kernels()
    two_places.process.send_signal(signal.SIGTERM)
    assert two_places.process.wait(timeout=END_TIMEOUT) == 0
    assert psutil.wait_procs(processes, timeout=END_TIMEOUT)[1] == []
    assert list(two_places.temporary.iterdir()) == []
    expect(first.ended).to_be_visible(timeout=KERNEL_TIMEOUT)


def test_an_idle_kernel_is_closed_and_one_that_trains_is_not(show, visitor):
    served = show("protgpt2-tiny;steps=1000000", "--idle=0.5")
    busy, idle = visitor(), visitor()
    busy.go(served.url)
    busy.start.click()
    steps = re.compile(r"step ([\d,]+) of 1,000,000", re.IGNORECASE)
    said = busy.page.locator(".wblab")
    expect(said).to_contain_text(steps, timeout=KERNEL_TIMEOUT)
    (kernel,) = served.kernels()

    idle.go(served.url)
    expect(idle.start).to_be_visible(timeout=KERNEL_TIMEOUT)
    expect(idle.ended).to_be_hidden()
    expect(idle.ended).to_be_visible(timeout=KERNEL_TIMEOUT)
    # The other has been at it for longer than it took the idle one to be closed, and goes on.
    assert served.kernels() == [kernel]
    now = steps.search(said.inner_text()).group()
    expect(said).not_to_contain_text(now, timeout=KERNEL_TIMEOUT)
    expect(busy.ended).to_be_hidden()
