"""The notebooks as a reader runs them: Run All in JupyterLab, then a hand on T and α."""

from __future__ import annotations

import re

from playwright.sync_api import expect

#: Rows of the panel's table of finished runs.
FINISHED = "table:has(caption:has-text('Finished runs')) tbody tr"


def play_to_the_end(panel) -> None:
    """Press Play and wait until the run is finished."""
    panel.get_by_role("button", name="Play", exact=True).click()
    expect(panel.get_by_role("button", name="Pause", exact=True)).to_be_visible(timeout=120_000)
    expect(panel).to_contain_text("Done", timeout=400_000)


def rows_of(lab) -> dict[str, list[str]]:
    """The four rows of the first results table on the page, by their first word."""
    table = lab.panel.locator(".workbench-four-rows table").first
    table.wait_for()
    rows = {}
    for row in table.locator("tbody tr").all():
        rows[row.locator("th").inner_text().split(":")[0]] = row.locator("td").all_inner_texts()
    return rows


def pictures(lab) -> int:
    """Figures on the page that really hold a picture."""
    images = lab.panel.locator(".jp-OutputArea-output img")
    return sum(image.evaluate("i => i.naturalWidth > 300") for image in images.all())


def test_start_here_trains_and_shows_the_four_rows(lab_page):
    lab = lab_page("00_start_here.ipynb")
    lab.run_all(timeout=600)
    lab.screenshot("00_start_here")
    said = lab.output_text()
    assert "✗" not in said
    rows = rows_of(lab)
    assert list(rows) == ["oracle", "teacher", "student", "baseline"]
    perplexity = {name: float(cells[1]) for name, cells in rows.items()}
    assert perplexity["oracle"] < perplexity["teacher"] < perplexity["student"]
    assert perplexity["student"] < 0.92 * perplexity["baseline"]
    assert "With its teacher the student's perplexity is" in said
    assert pictures(lab) == 2
    assert lab.external_requests == []


def test_protgpt2_runs_and_answers_to_t_and_alpha(lab_page):
    # Fewer steps than a reader's: three students are trained here, and one more by hand.
    lab = lab_page("04_protgpt2.ipynb", STEPS=150)
    lab.run_all(timeout=600)
    said = lab.output_text()
    assert "38,866,432" in said
    shares = dict(re.findall(r"([a-z-]+) +teacher's share +([\d.]+)%", said))
    assert float(shares["as-published"]) < 10 < 50 < float(shares["corrected"])
    assert rows_of(lab)["oracle"][0] == "–"
    assert pictures(lab) == 7
    assert re.search(r"<\|endoftext\|> ?MKRI", said)

    # The panel at the end is the one of section 5 again, with its three runs.
    panel = lab.panel.locator(".wblab").last
    expect(panel.locator(FINISHED)).to_have_count(3)
    panel.get_by_label("Variant", exact=True).select_option("corrected")
    sliders = panel.locator("input[type=range]")
    sliders.nth(1).focus()
    expect(panel).to_contain_text("0.1·CE(student, x[t+1])")
    for _ in range(5):
        sliders.nth(1).press("ArrowRight")
    expect(panel).to_contain_text("0.15·CE(student, x[t+1])")
    play_to_the_end(panel)
    expect(panel.locator(FINISHED)).to_have_count(4)
    expect(panel.locator(FINISHED).last).to_contain_text("α=0.15")
    assert "student" in panel.locator("svg[role=img]").first.text_content()
    lab.screenshot("04_protgpt2")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_soft_and_hard_loss_fills_its_ledger(lab_page):
    lab = lab_page("01_soft_and_hard_loss.ipynb", STEPS=16)
    lab.run_all(timeout=300)
    said = lab.output_text()
    shares = re.findall(r"the teacher's share of the gradient: +([\d.]+)%", said)
    without, squared, batchmean = map(float, shares)
    assert without < 5 < 20 < batchmean < squared
    ledger = lab.panel.locator("svg[role=img]", has_text="whose gradient")
    assert "without T², batchmean" in ledger.first.text_content()
    assert said.count("Not attempted.") == 6
    lab.screenshot("01_soft_and_hard_loss")
    assert lab.external_requests == []


def test_temperature_measures_and_draws(lab_page):
    lab = lab_page("02_temperature.ipynb", STEPS=20, SWEEP_STEPS=4)
    lab.run_all(timeout=300)
    said = lab.output_text()
    agreement = dict(re.findall(r"(\w+) +rank correlation with BLOSUM62: ([\d.]+)", said))
    assert float(agreement["teacher"]) > 0.9 * float(agreement["oracle"]) > 0.5
    assert pictures(lab) == 5
    assert said.count("Not attempted.") == 8
    lab.screenshot("02_temperature")
    assert lab.external_requests == []


def test_layer_halving_shows_what_the_first_layer_is_worth(lab_page):
    lab = lab_page("03_layer_halving.ipynb", STEPS=4, SEEDS=1)
    lab.run_all(timeout=300)
    said = lab.output_text()
    assert re.search(r"layer map 0,2,4,6: \d+ tensors copied \(100.0% of", said)
    assert pictures(lab) == 6
    assert said.count("Not attempted.") == 5
    lab.screenshot("03_layer_halving")
    assert lab.external_requests == []


def test_peptide_binding_runs_and_answers_to_t_and_alpha(lab_page):
    # Fewer steps and pairs than a reader's: three students are trained here, one by the panel.
    few = {"STEPS": 8, "TRAIN_PAIRS": 256, "TEST_PAIRS": 400}
    lab = lab_page("05_distilbert_pmhc.ipynb", **few)
    lab.run_all(timeout=400)
    said = lab.output_text()
    assert "91,963,394" in said and "49,436,162" in said
    assert said.count("Not attempted.") == 5
    table = rows_of(lab)
    auc = {name: float(cells[3].split()[0]) for name, cells in table.items()}
    assert auc["oracle"] > auc["teacher"] > 0.9
    assert table["oracle"][0] == "–"
    assert pictures(lab) == 9
    assert re.search(r"SLYNTVATL \[\{'label': '(non-)?binder'", said)
    # T moves the numbers in the browser; the panel's Play trains in the kernel.
    numbers = lab.panel.locator(".wbx-numeric").first
    before = numbers.inner_text()
    lab.panel.locator(".wbx-knob input[type=range]").first.press("ArrowRight")
    assert numbers.inner_text() != before
    panel = lab.panel.locator(".wblab").last
    play_to_the_end(panel)
    expect(panel.locator(FINISHED)).to_have_count(4)
    expect(panel).to_contain_text("the highest F1 is bold")
    assert "Held-out F1" in panel.locator("svg[role=img]").first.text_content()
    lab.screenshot("05_distilbert_pmhc")
    lab.assert_no_errors()
    assert lab.external_requests == []


#: Few steps and sentences: runs that a reader waits minutes for take seconds.
FEW_SENTENCES = {"STEPS": 6, "TRAIN_SENTENCES": 96, "TEST_SENTENCES": 48}


def test_distilbiobert_shows_the_words_that_the_truth_knows(lab_page):
    lab = lab_page("06_distilbiobert.ipynb", **FEW_SENTENCES)
    lab.run_all(timeout=400)
    said = lab.output_text()
    assert re.search(r"Erlotinib +0\.222", said) and re.search(r"Lapatinib +0\.111", said)
    assert "108,340,804" in said and "65,813,572" in said
    assert said.count("Not attempted.") == 4
    table = rows_of(lab)
    perplexity = {name: float(cells[1].replace(",", "")) for name, cells in table.items()}
    assert perplexity["oracle"] < perplexity["teacher"]
    assert pictures(lab) == 6
    # T moves the numbers in the browser.
    numbers = lab.panel.locator(".wbx-numeric").first
    before = numbers.inner_text()
    lab.panel.locator(".wbx-knob input[type=range]").first.press("ArrowRight")
    assert numbers.inner_text() != before
    lab.screenshot("06_distilbiobert")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_tinybiobert_tells_scores_from_probabilities(lab_page):
    lab = lab_page("07_tinybiobert.ipynb", **FEW_SENTENCES)
    lab.run_all(timeout=400)
    said = lab.output_text()
    assert "layers can be copied only into a student as wide as its teacher" in said
    assert re.search(r"sdpa +no maps", said) and re.search(r"eager +\[\[1, 4, 6, 6\]", said)
    own, shared = re.search(r"a W for each: ([\d.]+) +one shared W: ([\d.]+)", said).groups()
    assert float(own) < float(shared)
    assert said.count("Not attempted.") == 4
    assert pictures(lab) == 6
    lab.screenshot("07_tinybiobert")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_compactbiobert_weighs_its_terms_and_finds_entities(lab_page):
    few = {"ABLATION_STEPS": 4, "SEEDS": 1, "EPOCHS": 1}
    lab = lab_page("08_compactbiobert.ipynb", **FEW_SENTENCES, **few)
    lab.run_all(timeout=400)
    said = lab.output_text()
    scores = dict(re.findall(r"(teacher|student|untrained) +F1 ([\d.]+) \(", said))
    assert float(scores["teacher"]) > float(scores["untrained"])
    assert said.count("Not attempted.") == 4
    assert pictures(lab) == 7
    panel = lab.panel.locator(".wblab").last
    play_to_the_end(panel)
    expect(panel.locator(FINISHED)).to_have_count(2)
    expect(panel).to_contain_text("the lowest perplexity is bold")
    lab.screenshot("08_compactbiobert")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_the_tour_of_the_lab_asks_plays_and_answers(lab_page):
    lab = lab_page("09_the_lab.ipynb", STEPS=8)
    lab.run_all(timeout=200)
    panels = lab.panel.locator(".wblab")
    expect(panels).to_have_count(4)
    for number, answer in enumerate(("lower", "higher", "over 80 %")):
        panel = panels.nth(number)
        panel.scroll_into_view_if_needed()
        # The question comes first; a stored run is there to look at meanwhile.
        expect(panel.get_by_role("button", name="Play", exact=True)).to_have_attribute(
            "aria-disabled", "true"
        )
        assert panel.locator("svg polyline").count() >= 2
        panel.get_by_label(answer, exact=True).check()
        panel.get_by_role("button", name="Answer", exact=True).click()
        play_to_the_end(panel)
        expect(panel).to_contain_text(re.compile(r"Measured: .+\((as you said|you said: .+)\)"))
        expect(panel.locator(FINISHED)).to_have_count(1)
    lab.screenshot("09_the_lab")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_hyperparameters_shows_the_landscape_and_sweeps_one_of_its_own(lab_page):
    lab = lab_page("10_hyperparameters.ipynb", STEPS=2, SEEDS=1)
    lab.run_all(timeout=400)
    said = lab.output_text()
    assert "Not attempted." in said and "protgpt2-tiny;T=10;alpha=0.1;variant=as-published" in said
    maps = lab.panel.locator(".wbg")
    # Three stored sweeps, and the reader's own with two temperatures and two α.
    expect(maps).to_have_count(4)
    for number, cells in enumerate((48, 32, 40, 8)):
        expect(maps.nth(number).locator("td.wbg-cell")).to_have_count(cells)
    for number in range(4):
        cells = maps.nth(number).locator("td.wbg-cell")
        cells.first.click()
        expect(maps.nth(number).locator(".wbg-charts svg").first).to_be_visible()
        # The arrow keys are the map's, not the notebook's.
        cells.first.press("ArrowRight")
        expect(cells.nth(1)).to_be_focused()
    expect(lab.panel.locator(".wblab")).to_have_count(1)
    lab.screenshot("10_hyperparameters")
    lab.assert_no_errors()
    assert lab.external_requests == []


def test_perplexity_and_runtime_shows_what_was_measured_and_measures(lab_page):
    lab = lab_page("11_perplexity_and_runtime.ipynb", REPEATS=1)
    lab.run_all(timeout=300)
    said = lab.output_text()
    assert re.search(r"300 steps each, \S+, \d+ threads \d{4}-\d\d-\d\d", said)
    assert re.search(r"compactbiobert +1\.\d+ ", said)
    assert len(re.findall(r"(?:scoring|generating) +\d+ × +\d+ tokens: +[\d.]+ times", said)) == 18
    assert pictures(lab) == 5
    assert said.count("Not attempted.") == 4
    lab.screenshot("11_perplexity_and_runtime")
    assert lab.external_requests == []


def test_out_in_the_world_streams_exports_and_averages(lab_page):
    lab = lab_page("12_out_in_the_world.ipynb", SECONDS=0.3)
    lab.run_all(timeout=400)
    said = lab.output_text()
    assert "<|endoftext|>MKR" in said and "protgpt2-tiny, student of protgpt2" in said
    assert re.search(r"teacher +[\d,]+ +125% ", said) and re.search(r"student +[\d,]+ +125% ", said)
    assert re.search(r"ONNX int8 +0\.\d\d ", said) and "pip install onnxruntime tokenizers" in said
    assert re.search(r"In the teacher's time for a batch of 1 fit \S+ of \d students", said)
    assert pictures(lab) == 5
    # Four questions, and two that are checked after what they ask about was measured.
    assert said.count("Not attempted.") == 6
    lab.screenshot("12_out_in_the_world")
    assert lab.external_requests == []


def test_your_own_model_is_distilled_and_impossible_ones_are_refused(lab_page):
    lab = lab_page("13_your_own_model.ipynb", TEACHER_STEPS=20, STEPS=10)
    lab.run_all(timeout=300)
    said = lab.output_text()
    assert rows_of(lab)["oracle"] == ["–"] * 8  # nobody knows the truth about a file
    assert "0 tensors random" not in said and "tensors copied (100.0% of" in said
    # Each goes over several lines, the others indented.
    refusals = [" ".join(text.split()) for text in re.findall(r"^✗ .*(?:\n  .*)*", said, re.M)]
    assert len(refusals) == 7
    for word in ("12 layers", "layer 6", "causal", "sequence-to-sequence", "vocabulary",
                 "code of its own", "pickle"):  # fmt: skip
        assert any(word in line for line in refusals), word
    assert said.count("Not attempted.") == 4
    lab.screenshot("13_your_own_model")
    assert lab.external_requests == []
