"""The terms' weights in Chromium: the same shares as in Python, and the controls.

The widget's module is loaded into an empty page, with an object in place of the kernel.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from workbench.lab.terms.term_weights import TermWeights

#: Renders the module with a stand-in for the widget's model.
RENDER = """async ({module, css, traits}) => {
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
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  window.wbt = await import(address);
  const place = document.createElement('div');
  document.body.append(place);
  window.leave = wbt.default.render({model: window.model, el: place});
}"""  # noqa: E501
NORMS = {
    variant: {
        t: {"hard": 0.9, "soft": 0.21 * t, "hidden": 0.62, "attention": attention}
        for t in (1.0, 2.0, 4.0, 10.0)
    }
    for variant, attention in (("corrected", 0.5), ("as-published", 0.5), ("as-coded", 0.025))
}


@pytest.fixture
def show(chromium):
    """Puts the widget into an empty page: ``show("corrected")`` is widget and page."""
    contexts, labs = [], []
    errors: list[str] = []
    requests: list[str] = []

    def render(variant: str = "corrected", **options) -> tuple[TermWeights, Page]:
        lab = TermWeights("compactbiobert", NORMS, variant, name="test")
        labs.append(lab)
        keys = ("state", "_variants", "_title", "_most", "_picture")
        traits = {key: getattr(lab, key) for key in keys}
        contexts.append(chromium.new_context(viewport={"width": 1040, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.set_content("<!doctype html><body></body>")
        page.evaluate(RENDER, {"module": lab._esm, "css": lab._css, "traits": traits})
        return lab, page

    yield render
    for lab in labs:
        lab.close()
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


def picture(page: Page, name: str) -> None:
    directory = os.environ.get("WORKBENCH_SCREENSHOTS")
    if directory:
        page.locator(".wbt").screenshot(path=Path(directory) / f"{name}.png")


def move(page: Page, name: str, value: float) -> None:
    page.get_by_label(name, exact=True).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def shown(page: Page) -> list[list[str]]:
    return page.locator("tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.children].map(c => c.textContent).slice(-4))"
    )


def test_javascript_and_python_share_out_alike(show):
    lab, page = show()
    draw = random.Random(20)
    states = [
        {
            "variant": draw.choice(list(NORMS)),
            "temperature": draw.choice([1.0, 2.0, 4.0, 10.0]),
            "alpha": draw.choice([0.0, 1.0, draw.random()]),
            "weights": {n: draw.choice([0.0, 10 * draw.random()]) for n in ("hidden", "attention")},
        }
        for _ in range(100)
    ]
    found = page.evaluate(
        """(states) => states.map((state) => {
          const variant = model.get('_variants')[state.variant];
          const {norms} = variant.at[String(state.temperature)];
          return wbt.sharesOf(norms, wbt.weightsOf(variant, state));
        })""",
        states,
    )
    for state, shares in zip(states, found, strict=True):
        expected = {name: pull.share for name, pull in lab.pulls(state).items()}
        assert shares == pytest.approx(expected, abs=1e-12)


def test_a_slider_moves_bar_table_and_formula_and_tells_the_kernel(show):
    lab, page = show()
    bar = page.locator(".wbt-now")
    assert page.locator(".wbt-formula").inner_text().replace("\n", " ") == lab.formula()
    picture(page, "terms")
    move(page, "weight of attention", 0)
    move(page, "labels’ weight α", 0.5)
    page.get_by_label("Temperature T").select_option("10")
    page.wait_for_function("() => saved.at(-1)?.temperature === 10")
    state = page.evaluate("saved.at(-1)")
    lab.set_state({"state": json.loads(json.dumps(state))})
    assert lab.state == state
    assert (state["alpha"], state["weights"]["attention"]) == (0.5, 0)
    pulls = list(lab.pulls().items())
    for (_, pull), row in zip(pulls, shown(page), strict=True):
        assert float(row[0]) == pytest.approx(pull.weight, rel=1e-2)
        assert float(row[3].removesuffix(" %")) == pytest.approx(100 * pull.share, abs=0.51)
    widths = bar.locator("div").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
    assert widths == pytest.approx([100 * pull.share for _, pull in pulls], abs=1e-3)
    assert "attention 0 %" in bar.get_attribute("aria-label")
    assert page.locator(".wbt-formula").inner_text().replace("\n", " ") == lab.formula()
    expect(page.locator("[aria-live]")).to_contain_text("corrected, T = 10: hard")


def test_a_variant_is_taken_with_its_numbers_and_published_weights_come_back(show):
    lab, page = show()
    move(page, "weight of hidden", 9)
    reset = page.get_by_role("button", name="Published weights")
    reset.click()
    expect(reset).to_be_disabled()
    coded = page.get_by_role("button", name="as-coded")
    coded.focus()
    page.keyboard.press("Enter")
    expect(coded).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Temperature T")).to_have_value("1")
    expect(page.locator(".wbt-remark")).to_contain_text("attention 20 times weaker")
    picture(page, "terms-as-coded")
    lab.set(variant="as-coded")
    page.wait_for_function("() => saved.at(-1)?.variant === 'as-coded'")
    assert page.evaluate("saved.at(-1)") == lab.state
    page.evaluate("model.set('state', {...model.get('state'), alpha: 1})")  # from the kernel
    expect(page.locator("tbody tr").nth(1)).to_contain_text("0 %")
    page.evaluate("leave()")
    assert page.evaluate("model.listeners()") == 0
    assert page.locator(".wbt").count() == 0


def test_every_control_has_a_name_and_a_narrow_page_does_not_scroll_sideways(show):
    _, page = show(color_scheme="dark")
    controls = page.locator(".wbt input, .wbt select, .wbt button")
    names = controls.evaluate_all(
        "all => all.map(e => e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent)"  # noqa: E501
    )
    assert all(names) and len(set(names)) == len(names)
    picture(page, "terms-dark")
    page.set_viewport_size({"width": 460, "height": 900})
    picture(page, "terms-narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 460
