"""The landscape in Chromium: menus, cells by mouse and by keyboard, both themes, hostile words.

The widget's module is loaded into an empty page, with an object in place of the kernel.
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from workbench import Landscape

#: Renders the module with a stand-in for the widget's model.
RENDER = """async ({module, css, traits, paper}) => {
  const listeners = {};
  window.saved = [];
  window.model = {
    get: (key) => traits[key],
    set: (key, value) => { traits[key] = value; (listeners[`change:${key}`] ?? []).forEach(f => f()); },
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => { listeners[name] = (listeners[name] ?? []).filter(g => g !== f); },
    save_changes: () => window.saved.push(traits.state),
    listeners: () => Object.values(listeners).flat().length,
  };
  const style = document.createElement('style');
  style.textContent = css;
  document.head.append(style);
  document.body.style.background = paper;
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  window.wbg = await import(address);
  const place = document.createElement('div');
  document.body.append(place);
  window.leave = wbg.default.render({model: window.model, el: place});
}"""  # noqa: E501
#: What of the page's letters cannot be told from what is behind them, WCAG's contrast below 4.5.
PALE = """() => {
  const light = (rgb) => { const [r, g, b] = rgb.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => { for (; e; e = e.parentElement) {
    const [r, g, b, a = 1] = read(getComputedStyle(e).backgroundColor);
    if (a > 0) return [r, g, b]; } return [255, 255, 255]; };
  return [...document.querySelectorAll('.wbg :is(p, h4, th, td, b, span, small, label, select)')]
    .filter(e => e.textContent.trim() && !e.closest('.wbg-unseen')).filter(e => {
      const [low, high] = [light(read(getComputedStyle(e).color).slice(0, 3)), light(behind(e))]
        .sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05) < 4.5; }).map(e => `${e.className} ${e.textContent}`);
}"""


@pytest.fixture
def show(chromium):
    """Puts a landscape into an empty page: ``show("protgpt2-tiny")`` is widget and page."""
    contexts, made = [], []
    errors: list[str] = []
    requests: list[str] = []

    def render(source="protgpt2-tiny", width: int = 1040, **options) -> tuple[Landscape, Page]:
        landscape = Landscape(source, name="test")
        made.append(landscape)
        traits = {key: getattr(landscape, key) for key in ("state", "_data", "_picture")}
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.set_content("<!doctype html><body></body>")
        paper = "#111111" if options.get("color_scheme") == "dark" else "#ffffff"
        what = {"module": landscape._esm, "css": landscape._css, "traits": traits, "paper": paper}
        page.evaluate(RENDER, what)
        return landscape, page

    yield render
    for landscape in made:
        landscape.close()
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


def picture(page: Page, name: str) -> None:
    directory = os.environ.get("WORKBENCH_SCREENSHOTS")
    if directory:
        page.locator(".wbg").screenshot(path=Path(directory) / f"{name}.png")


def cell(page: Page, variant: str, temperature: str, alpha: str):
    return page.get_by_role(
        "gridcell", name=re.compile(f"^T = {temperature}, α = {alpha}, {variant}:")
    )


def test_the_cells_have_the_numbers_marks_and_stars_of_the_sweep(show):
    landscape, page = show()
    figure = landscape.state["student"], landscape.state["figure"]
    student = landscape.data["students"].index(figure[0])
    for point in (p for p in landscape.data["points"] if p["at"][1] == student):
        v, _, t, a = point["at"]
        name = landscape.data["variants"][v]["name"]
        shown = cell(
            page, name, f"{landscape.data['temperatures'][t]:g}",
            f"{landscape.data['alphas'][a]:g}",
        )  # fmt: skip
        mean = point["figures"][figure[1]]["mean"]
        expect(shown).to_contain_text(f"{mean:.2f}" if mean < 1000 else f"{mean:.0f}")
        mark = {"better": "✓", "not better": "✗", "inconclusive": "?"}[point["verdict"]["word"]]
        expect(shown).to_contain_text(mark)
    for name in ("corrected", "as-published"):
        expect(cell(page, name, "10", "0.1")).to_contain_text("★")
    assert page.locator("td:has-text('★')").count() == len(landscape.data["variants"])
    expect(page.locator(".wbg-levels")).to_contain_text("labels only")
    expect(page.locator(".wbg-told")).to_contain_text("workbench sweep protgpt2-tiny")


def test_a_click_shows_the_cell_and_tells_the_kernel(show):
    landscape, page = show()
    cell(page, "as-published", "10", "0.1").click()
    expect(page.locator(".wbg-section h4").first).to_contain_text("as-published, T = 10, α = 0.1")
    landscape.select(variant="as-published", T=10, alpha=0.1)
    expect(page.get_by_label("link for the Lab")).to_have_value(landscape.link)
    share = landscape.point["ledger"]["soft"]["share"]
    expect(page.locator(".wbg-ledger")).to_have_attribute(
        "aria-label", re.compile(f"soft {100 * share:.1f} %")
    )
    page.wait_for_function("() => saved.at(-1)?.variant === 'as-published'")
    landscape.set_state({"state": json.loads(json.dumps(page.evaluate("saved.at(-1)")))})
    assert landscape.state["variant"] == "as-published"
    expect(page.locator("[aria-live]")).to_contain_text("as-published, T = 10, α = 0.1")
    # The curve of another figure, and of the loss.
    page.get_by_label("curve", exact=True).select_option("loss")
    expect(page.locator(".wbg-behind svg").first).to_contain_text("Loss of the batch")


def test_arrow_keys_walk_over_the_maps_and_one_cell_can_be_reached_by_tab(show):
    _, page = show()
    cell(page, "corrected", "10", "0.1").click()
    page.keyboard.press("ArrowDown")
    expect(cell(page, "corrected", "10", "0")).to_be_focused()
    page.keyboard.press("ArrowDown")  # the edge
    expect(cell(page, "corrected", "10", "0")).to_be_focused()
    page.keyboard.press("ArrowRight")  # the next map
    expect(cell(page, "as-published", "1", "0")).to_be_focused()
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    chosen = cell(page, "as-published", "10", "0.1")
    expect(chosen).to_be_focused()
    expect(chosen).to_have_attribute("aria-selected", "true")
    assert page.locator("td[tabindex='0']").count() == 1
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(cell(page, "corrected", "10", "0.1")).to_be_focused()


def test_menus_change_figure_and_size_and_the_slider_moves_the_contours(show):
    landscape, page = show()
    sizes = landscape.data["students"]
    contours = page.locator(".wbg-contours svg.wbg-chart").first
    before = contours.evaluate("e => e.innerHTML")
    slider = page.get_by_label("size, for the contours", exact=True)
    slider.focus()
    slider.press("ArrowLeft")
    expect(page.get_by_role("combobox", name="Student’s size", exact=True)).to_have_value(sizes[-2])
    assert contours.evaluate("e => e.innerHTML") != before
    expect(page.locator(".wbg-contour-even").first).to_be_attached()
    expect(page.locator(".wbg-contour-ghost").first).to_be_attached()
    page.get_by_role("combobox", name="Figure", exact=True).select_option("kl_to_teacher")
    expect(page.locator(".wbg-levels")).to_contain_text("KL to the teacher")
    # A verdict is on the headline; another figure has none.
    assert page.locator("td.wbg-cell:has-text('✓')").count() == 0
    page.evaluate("model.set('state', {...model.get('state'), figure: 'perplexity'})")  # by Python
    expect(page.locator(".wbg-levels")).to_contain_text("Perplexity (lower is better)")
    page.evaluate("leave()")
    assert page.evaluate("model.listeners()") == 0
    assert page.locator(".wbg").count() == 0


def test_contours_lie_where_a_known_function_has_its_level(show):
    _, page = show()
    # x² + y² = 0.49 on the unit square is a quarter of a circle with the radius 0.7.
    radii = page.evaluate(
        "wbg.contour((x, y) => x * x + y * y, 0.49).flat().map(([x, y]) => Math.hypot(x, y))"
    )
    assert len(radii) > 60
    assert radii == pytest.approx([0.7] * len(radii), abs=1e-3)
    assert page.evaluate("wbg.contour(() => null, 1)") == []


# The last one of the second list is beyond twice the median: it does not stretch the scale.
@pytest.mark.parametrize("means", [[8.0, 9.5, 12.25, 20.0], [8.0, 9.5, 12.25, 20.0, 3833.0]])
def test_python_and_browser_colour_alike(show, means):
    from workbench.lab.landscape.landscape_svg import Scale

    landscape, page = show()
    figure, colours = landscape.data["figures"][0], landscape.data["colours"]
    found = page.evaluate(
        """([means, figure, colours]) => {
          const scale = wbg.colouring(means, figure, colours);
          return means.map(m => scale.colour(m));
        }""",
        [means, figure, colours],
    )
    scale = Scale([{"mean": mean} for mean in means], figure, colours)
    for mean, one in zip(means, found, strict=True):
        paper, ink = scale.colours(mean)
        channels = [int(paper[i : i + 2], 16) for i in (1, 3, 5)]
        numbers = map(int, re.findall(r"\d+", one["paper"]))
        assert list(numbers) == pytest.approx(channels, abs=1)
        assert one["ink"] == ink


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_in_both_themes(show, scheme):
    _, page = show(color_scheme=scheme)
    picture(page, f"landscape-{scheme}")
    assert page.evaluate(PALE) == []


def test_every_control_has_a_name_and_a_narrow_page_does_not_scroll_sideways(show):
    _, page = show(width=420)
    controls = page.locator(".wbg input, .wbg select, .wbg button, .wbg table")
    names = controls.evaluate_all(
        "all => all.map(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent)"  # noqa: E501
    )
    assert all(names) and len(set(names)) == len(names)
    picture(page, "landscape-narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_words_from_a_file_are_words(show, tmp_path):
    content = copy.deepcopy(Landscape("protgpt2-tiny", name="source").content)
    evil = "<img src=x onerror=\"document.title='bad'\">"
    content["command"] = content["sweep"]["machine"] = evil
    content["sweep"]["headline"]["name"] = evil
    for place in content["places"]:
        place |= {"title": evil, "text": evil, "words": [evil] * len(place["words"])}
    for point in content["points"]:
        point |= {"state": evil, "errors": [evil]}
        point["ledger"] = {evil: {"value": 1.0, "weight": 1.0, "share": 1.0}}
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    _, page = show(path)
    page.locator("td.wbg-cell").first.click()
    expect(page.locator(".wbg-told")).to_contain_text(evil)
    assert page.locator(".wbg img").count() == 0 and page.title() == ""
