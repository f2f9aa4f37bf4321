"""The live ledger: what it keeps, what it draws, and that it lets go."""

from __future__ import annotations

import threading
from xml.etree import ElementTree

import pytest

from workbench import workshop
from workbench.config import RunConfig
from workbench.lab import Ledger, registry
from workbench.lab.terms.ledger import Page, picture
from workbench.objective import LedgerEntry
from workbench.progress import Silent


@pytest.fixture
def shop(tiny_teacher):
    config = RunConfig.from_recipe(
        "protgpt2-tiny", teacher=str(tiny_teacher), train_sequences=32, validation_sequences=8,
        batch_size=16, steps=4,
    )  # fmt: skip
    return workshop.prepare(config, Silent())


@pytest.fixture
def ledger():
    book = Ledger(name="a test")
    yield book
    book.close()


def page(label: str = "with T²", *shares: float) -> Page:
    entries = [
        {
            "hard": LedgerEntry(value=2.5, weight=0.1, gradient_norm=1 - s, share=1 - s),
            "soft": LedgerEntry(value=0.5, weight=0.9, gradient_norm=s, share=s),
        }
        for s in shares
    ]
    return Page(label, tuple(range(0, 10 * len(shares), 10)), tuple(entries))


def text_of(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_entries_are_those_of_the_distiller(shop, ledger):
    batch = shop.train_batches[0]
    expected = shop.student.ledger(batch)
    assert ledger.add("a", shop.student, batch) == expected
    shop.student.step(batch)
    ledger.add("a", shop.student, batch)
    ledger.add("b", shop.student, batch)
    assert ledger.pages["a"].steps == (0, 1)
    assert ledger.pages["a"].entries[0] == expected
    assert ledger.shares["b"] == shop.student.ledger(batch)["soft"].share
    assert ledger.flush(timeout=10)
    words = text_of(ledger.value)
    assert f"teacher {ledger.shares['b']:.1%}" in words


def test_asking_leaves_the_student_as_it_was(shop, ledger):
    batch = shop.train_batches[0]
    before = [p.detach().clone() for p in shop.student.student.parameters()]
    ledger.add("a", shop.student, batch)
    after = list(shop.student.student.parameters())
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_a_student_without_a_teacher_has_no_ledger(shop, ledger):
    with pytest.raises(ValueError, match="only one term"):
        ledger.add("alone", shop.baseline, shop.train_batches[0])
    assert ledger.pages == {}


def test_picture_says_the_shares_in_words_and_numbers():
    drawn = picture([page("without T²", 0.02, 0.022), page("with T²", 0.7, 0.691)])
    words = text_of(drawn)
    for text in ("without T²", "with T²", "teacher 2.2%", "labels 97.8%", "teacher 69.1%", "0.45"):
        assert text in words
    assert "share of the gradient is 69.1%" in words
    assert text_of(picture([])).startswith("Loss ledger")


def test_bars_of_a_row_are_in_proportion():
    drawn = ElementTree.fromstring(picture([page("x", 0.5)]))
    bars = [r for r in drawn.iter("{http://www.w3.org/2000/svg}rect") if r.get("height") == "24"]
    hard, soft = (float(bar.get("width")) for bar in bars)
    assert hard / soft == pytest.approx((0.1 * 2.5) / (0.9 * 0.5), rel=1e-2)


def test_labels_are_escaped():
    assert "<script>" not in picture([page("<script>alert(1)</script>", 0.5)])


def test_an_equal_name_closes_the_older_one_and_leaves_no_thread():
    first = Ledger(name="same")
    first._publisher.poke()
    second = Ledger(name="same")
    assert registry.open_names().count("same") == 1
    second.close()
    second.close()
    assert "same" not in registry.open_names()
    assert not [t for t in threading.enumerate() if t.name == "workbench publisher"]
