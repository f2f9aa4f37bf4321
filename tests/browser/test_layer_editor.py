"""The layer-map editor in Chromium: pointer, keyboard, menu and text; and in JupyterLab.

Most tests load the widget's module into an empty page, with an object in place of the kernel.
The last ones have a kernel.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page, expect

from workbench import layer_maps
from workbench.errors import UsageError
from workbench.lab import LayerMapEditor
from workbench.lab.layers import layer_editor, layer_editor_svg
from workbench.recipes import Shape

#: Renders the module with a stand-in for the widget's model.
RENDER = """async ({module, css, traits}) => {
  const listeners = {};
  window.saved = [];
  window.model = {
    get: (key) => traits[key],
    set: (key, value) => {
      if (traits[key] === value) return;
      traits[key] = value;
      (listeners[`change:${key}`] ?? []).forEach(f => f());
    },
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => { listeners[name] = (listeners[name] ?? []).filter(g => g !== f); },
    save_changes: () => window.saved.push(traits.text),
    listeners: () => Object.values(listeners).flat().length,
  };
  const style = document.createElement('style');
  style.textContent = css;
  document.head.append(style);
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  const widget = await import(address);
  const place = document.createElement('div');
  document.body.append(place);
  window.leave = widget.default.render({model: window.model, el: place});
}"""


def shape(layers: int) -> Shape:
    return Shape(layers=layers, heads=2, width=16, positions=64, vocabulary=21)


@pytest.fixture
def show(chromium):
    """Puts an editor into an empty page: ``show(9, "2i")`` is the page."""
    contexts = []
    errors: list[str] = []
    requests: list[str] = []

    def render(teacher, layer_map="2i", **options) -> Page:
        editor = LayerMapEditor(
            shape(teacher) if isinstance(teacher, int) else teacher, layer_map, name="test"
        )
        keys = ("text", "_teacher", "_named", "_presets", "_most", "_picture")
        traits = {key: getattr(editor, key) for key in keys}
        contexts.append(chromium.new_context(viewport={"width": 1040, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.set_content("<!doctype html><body></body>")
        page.evaluate(RENDER, {"module": editor._esm, "css": editor._css, "traits": traits})
        editor.close()
        return page

    yield render
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == []


def text_box(page):
    return page.get_by_label("As text")


def set_text(page, text: str) -> None:
    text_box(page).fill(text)
    text_box(page).press("Enter")


def expect_map(page, text: str) -> None:
    """The box says it, and so do the layers and the account."""
    expect(text_box(page)).to_have_value(text)
    expect(page.locator(".wbl-command")).to_have_text(f"--init {text}")


def expect_saved(page: Page, text: str) -> None:
    page.wait_for_function("text => window.saved.at(-1) === text", arg=text)


def student(page, place: int):
    return page.locator(f'[data-side="student"][data-index="{place}"]')


def teacher(page, layer: int):
    return page.locator(f'[data-side="teacher"][data-index="{layer}"]')


def drag(page: Page, start, end) -> None:
    page.evaluate("1")
    one, other = start.bounding_box(), end.bounding_box()
    page.mouse.move(one["x"] + one["width"] / 2, one["y"] + one["height"] / 2)
    page.mouse.down()
    page.mouse.move(other["x"] + 40, other["y"] + other["height"] / 2, steps=5)
    page.mouse.up()


def picture(page: Page, name: str) -> None:
    directory = os.environ.get("WORKBENCH_SCREENSHOTS")
    if directory:
        page.locator(".wbl").screenshot(path=Path(directory) / f"{name}.png")


# ---------------------------------------------------------------------- by hand


def test_click_teacher_then_student_and_the_other_way_round(show):
    page = show(9)
    expect_map(page, "0,2,4,6")
    teacher(page, 8).click()
    expect(page.locator(".wbl-hint")).to_contain_text("Teacher layer 8 is chosen")
    picture(page, "editor-armed")
    student(page, 3).click()
    expect_map(page, "0,2,4,8")
    expect_saved(page, "0,2,4,8")
    student(page, 0).click()
    expect(page.locator(".wbl-hint")).to_contain_text("Student layer 0 is chosen")
    teacher(page, 1).click()
    expect_map(page, "1,2,4,8")
    # Once more on the same layer lets go, and so does Escape.
    teacher(page, 5).click()
    teacher(page, 5).click()
    student(page, 1).click()
    student(page, 1).press("Escape")
    teacher(page, 5).click()
    expect(page.locator(".wbl-armed")).to_have_count(1)
    expect_map(page, "1,2,4,8")


def test_drag_from_either_side_and_by_the_arrow(show):
    page = show(9)
    drag(page, teacher(page, 7), student(page, 3))
    expect_map(page, "0,2,4,7")
    drag(page, student(page, 0), teacher(page, 3))
    expect_map(page, "3,2,4,7")
    # The middle of the arrow of student layer 2.
    line = page.locator('[data-side="arrow"][data-index="2"] .wbl-line')
    drag(page, line, teacher(page, 5))
    expect_map(page, "3,2,5,7")
    expect_saved(page, "3,2,5,7")
    # Dropped beside everything, on a layer of the same side or on a table: nothing changes.
    drag(page, teacher(page, 1), page.locator(".wbl-title").first)
    drag(page, teacher(page, 1), teacher(page, 2))
    drag(page, teacher(page, 1), page.locator('[aria-label^="embeddings of the student"]'))
    expect_map(page, "3,2,5,7")
    expect(page.locator(".wbl-ghost")).to_have_attribute("visibility", "hidden")


def test_keyboard(show):
    page = show(9, "0,8")
    low, high = student(page, 0), student(page, 1)
    low.focus()
    low.press("ArrowUp")
    low.press("ArrowUp")
    expect_map(page, "2,8")
    low.press("ArrowDown")
    expect_map(page, "1,8")
    low.press("Tab")
    expect(high).to_be_focused()
    high.press("ArrowUp")  # there is none above
    expect_map(page, "1,8")
    high.press("Delete")
    expect_map(page, "1,-")
    expect(high).to_have_attribute("aria-valuetext", "random")
    high.press("ArrowDown")
    expect_map(page, "1,8")
    high.press("Home")
    high.press("Backspace")
    high.press("ArrowUp")
    expect_map(page, "1,0")
    high.press("End")
    expect_map(page, "1,8")
    expect(high).to_have_attribute("aria-valuenow", "8")
    high.press("q")
    expect_map(page, "1,8")
    expect_saved(page, "1,8")


def test_more_and_fewer_layers(show):
    page = show(4, "0,3")
    more = page.get_by_role("button", name="add a student layer")
    fewer = page.get_by_role("button", name="take the highest student layer away")
    more.click()
    expect_map(page, "0,3,-")
    fewer.click()
    fewer.click()
    expect_map(page, "0")
    expect(fewer).to_be_disabled()
    set_text(page, ",".join(["1"] * 64))
    expect(more).to_be_disabled()
    expect(page.locator('[data-side="student"]')).to_have_count(64)


def test_menu_gives_every_name_with_as_many_layers_as_there_are(show):
    page = show(12)
    menu = page.get_by_label("Map", exact=True)
    for name, expected in layer_maps.presets(12).items():
        menu.select_option(name)
        expect_map(page, layer_maps.write(expected))
        expect(menu).to_have_value(name)
    menu.select_option("distilbert")
    page.get_by_role("button", name="take the highest").click()
    expect(menu).to_have_value("")  # 0,2,4,7,9 has no name
    menu.select_option("spaced")
    expect_map(page, layer_maps.write(layer_maps.named("spaced", 12, 5)))
    menu.select_option("scratch")
    expect_map(page, "scratch:5")
    expect(page.locator(".wbl-side tbody tr").last).to_contain_text("0 %")
    # One layer taken from the teacher, and the tables come with it.
    student(page, 0).focus()
    student(page, 0).press("ArrowUp")
    expect_map(page, "0,-,-,-,-")
    set_text(page, "2i")
    expect(menu).to_have_value("2i")


# ---------------------------------------------------------------------- as text

TEXTS = [
    "2i", "2i:3", "2i+1", "2i+1:4", "2i+1:5", "2i:6", "first:9", "first:10", "first:0", "last",
    "spaced:1", "spaced:4", "distilbert", "distilbert:6", "scratch", "scratch:2", "random", "0",
    "8,8,0", "0,-,4,-", "-", "9", "0,99", "0,,2", "", "even", "2i:", "2i:x", "-1", "1.5", "0;2",
    "__proto__", "constructor:2", "first:2:3", ",".join(["1"] * 65),
]  # fmt: skip


@pytest.mark.parametrize("layers", [1, 9, 12])
def test_typed_text_means_what_it_means_in_python(show, layers):
    page = show(layers, "0")
    about = LayerMapEditor(shape(layers), "0", name="about").teacher
    error = page.locator(".wbl-error")
    for text in TEXTS:
        set_text(page, "0")
        expect_map(page, "0")
        try:
            expected = layer_editor.canonical(text, about)
        except UsageError:
            set_text(page, text)
            expect(error).to_be_visible()
            assert len(error.inner_text().splitlines()) == 1, text
            expect(text_box(page)).to_have_attribute("aria-invalid", "true")
            expect(page.locator(".wbl-command")).to_have_text("--init 0")
        else:
            set_text(page, text)
            expect_map(page, expected)
            expect(error).to_be_hidden()


def test_hostile_text_is_shown_as_text(show):
    page = show(9)
    set_text(page, "<img src=x onerror=alert(1)>")
    expect(page.locator(".wbl-error")).to_contain_text("<img src=x onerror")
    assert page.locator(".wbl img").count() == 0
    picture(page, "editor-error")
    teacher(page, 8).click()
    student(page, 0).click()
    expect(page.locator(".wbl-error")).to_be_hidden()
    expect_map(page, "8,2,4,6")


# ---------------------------------------------------------------------- what it says


@pytest.mark.parametrize("text", ["2i", "0,-,4,-", "scratch:3", "-"])
def test_account_is_pythons(show, text):
    page = show(9, text)
    editor = LayerMapEditor(shape(9), text, name="python")
    total = sum(part.parameters for part in editor.account().values())
    copied = sum(part.copied for part in editor.account().values())
    rows = [row.split("\t") for row in page.locator(".wbl-side tbody").inner_text().splitlines()]
    for (name, part), row in zip(editor.account().items(), rows, strict=False):
        assert row[:2] == [name, f"{part.parameters:,}"]
        assert row[2] == layer_editor_svg.percent(part.parameters, total)
        assert row[3] == layer_editor_svg.percent(part.copied, part.parameters)
    assert rows[-1][:2] == ["student", f"{total:,}"]
    assert f"copied {copied:,} (" in page.locator(".wbl-legend").inner_text()
    expect(page.locator(".wbl-unseen")).to_contain_text(f"{total:,} parameters")
    editor.close()


def test_every_control_has_a_name_and_keeps_its_keys(show):
    page = show(9)
    controls = page.locator(".wbl input, .wbl select, .wbl button, .wbl [tabindex]")
    for control in controls.all():
        assert control.get_attribute("data-lm-suppress-shortcuts") == "true"
        named = control.get_attribute("aria-label") or control.evaluate(
            "e => (e.labels?.[0] ?? {}).textContent"
        )
        assert named
    assert controls.count() == 4 + 9 + 4
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('.wbl *')].filter(e => e.childNodes.length
            && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
          .map(e => parseFloat(getComputedStyle(e).fontSize))"""
    )
    assert min(sizes) >= 13


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("layers", "text"), [(9, "0,-,4,8"), (12, "distilbert"), (36, "spaced")])
def test_pictures(show, scheme, layers, text):
    page = show(layers, text, color_scheme=scheme)
    boxes = [part.bounding_box() for part in page.locator(".wbl-part").all()]
    for side in (True, False):
        column = sorted(b["y"] for b in boxes if (b["x"] < 300) is side)
        assert min(b - a for a, b in pairwise(column)) > 18
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, f"editor-{layers}-{scheme}")


def test_narrow_page_does_not_shrink_the_drawing(show):
    page = show(9)
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".wbl-drawing").bounding_box()["width"] == 560
    picture(page, "editor-narrow")


# ---------------------------------------------------------------------- with the model


def test_python_sets_the_map_and_leaving_leaves_nothing(show):
    page = show(9)
    page.evaluate("model.set('text', '5,-')")
    expect_map(page, "5,-")
    assert page.evaluate("window.saved") == []
    page.evaluate("leave()")
    assert page.evaluate("model.listeners()") == 0
    assert page.locator(".wbl").count() == 0


FIRST = """
from workbench.lab import LayerMapEditor
editor = LayerMapEditor()
editor
"""


def test_in_jupyterlab(jupyter, lab_page, request):
    name = "editor.ipynb"
    told = "print('map is', editor.layer_map, editor.text)"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [new_code_cell(FIRST), new_code_cell(told)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), jupyter.notebooks / name)
    request.addfinalizer((jupyter.notebooks / name).unlink)
    lab = lab_page(name)
    lab.run_all(timeout=120)
    page, panel = lab.page, lab.panel
    expect_map(panel, "0,2,4,6")
    expect(panel.locator("[data-workbench-picture]")).to_be_hidden()
    teacher(panel, 8).click()
    student(panel, 3).click()
    expect_map(panel, "0,2,4,8")
    drag(page, teacher(panel, 5), student(panel, 2))
    expect_map(panel, "0,2,5,8")
    student(panel, 0).focus()
    cells_before = panel.locator(".jp-Cell").count()
    for key in ("ArrowUp", "Tab", "Delete"):
        page.keyboard.press(key)
    expect_map(panel, "1,-,5,8")
    set_text(panel, "nonsense")
    expect(panel.locator(".wbl-error")).to_be_visible()
    assert panel.locator(".jp-Cell").count() == cells_before
    lab.screenshot("editor-jupyterlab")
    # What is exported or read without a kernel shows the present map.
    deadline = time.monotonic() + 20
    while "--init 1,-,5,8" not in lab.file.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, "the picture in the saved notebook is an old one"
        lab.press("File", "Save Notebook")
        page.wait_for_timeout(200)
    # The second cell alone: the first would make a new editor.
    panel.locator(".jp-Cell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    lab.wait_for_text("map is (1, None, 5, 8) 1,-,5,8")

    def choose_theme(name: str, light: str) -> None:
        page.locator("#jp-MainMenu").get_by_text("Settings", exact=True).click()
        page.locator(".lm-Menu-itemLabel").get_by_text("Theme", exact=True).hover()
        page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True).click()
        page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")

    choose_theme("JupyterLab Dark", "false")
    set_text(panel, "2i+1")
    expect_map(panel, "1,3,5,7")
    lab.screenshot("editor-jupyterlab-dark")
    # JupyterLab keeps the choice, and other tests share its server.
    choose_theme("JupyterLab Light", "true")
    assert lab.external_requests == []
