"""Classifiers of elsewhere and a table of texts: read, refused, distilled, resumed, used."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import cli, evaluation, models, portable, runs
from workbench.classifying import binding, labelled_texts, many_classes, text_classifiers
from workbench.config import RunConfig
from workbench.errors import Interrupted, UsageError, WorkbenchError
from workbench.planning import plans
from workbench.progress import Silent
from workbench.tasks.task import ROW_KEYS
from workbench.teacher_cache import LiveTeacher, open_cache
from workbench.teaching import strangers

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
         "num_attention_heads": 2, "max_position_embeddings": 32}  # fmt: skip
CLASSES = ("cytosol", "membrane", "nucleus")
WORDS = ("binds", "DNA", "moves", "ions", "folds", "proteins", "the", "kinase", "NA", "null")


def words_tokenizer():
    """A token a word between two marks."""
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {t: i for i, t in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def named(classes) -> dict:
    return {"id2label": dict(enumerate(classes)), "label2id": {c: i for i, c in enumerate(classes)}}


def distilbert(**more):
    from transformers import DistilBertConfig

    sizes = {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32,
             "max_position_embeddings": 32}  # fmt: skip
    return DistilBertConfig(**{**sizes, "vocab_size": 14, "pad_token_id": 0, **named(CLASSES),
                               **more})  # fmt: skip


def llama(**more):
    from transformers import LlamaConfig

    return LlamaConfig(**{**SMALL, "vocab_size": 14, "pad_token_id": 0, "num_labels": 2, **more})


def others() -> dict:
    """Heads that read the first token, the last one, or the mean of all."""
    import transformers as t

    own = {"vocab_size": 14, "pad_token_id": 0, "num_labels": 3}
    marks = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    return {
        "roberta": t.RobertaConfig(**SMALL, **own),
        "electra": t.ElectraConfig(**SMALL, **own, embedding_size=8),
        "deberta-v2": t.DebertaV2Config(**SMALL, **own, relative_attention=True,
                                        pos_att_type=["p2c", "c2p"]),
        "modernbert": t.ModernBertConfig(**SMALL, **own, **marks, classifier_pooling="mean"),
        "gpt2": t.GPT2Config(n_embd=16, n_layer=4, n_head=2, n_positions=32, **own,
                             bos_token_id=2, eos_token_id=3),
        "qwen3": t.Qwen3Config(**SMALL, **own, num_key_value_heads=1, head_dim=8),
    }  # fmt: skip


def fresh(config):
    """A classifier with opinions: fresh weights answer nearly evenly."""
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4)
    return model.requires_grad_(False)


def save(place: Path, config, tokenizer=None) -> Path:
    fresh(config).save_pretrained(place)
    (tokenizer or words_tokenizer()).save_pretrained(place)
    return place


def described(place: Path, config, tokenizer=None, **more) -> Path:
    """A model directory whose weights are a line of text: whoever opened it would fail."""
    config.architectures = config.architectures or ["DistilBertForSequenceClassification"]
    config.save_pretrained(place)
    (tokenizer or words_tokenizer()).save_pretrained(place)
    stated = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**stated, **more}))
    (place / "model.safetensors").write_text("no weights")
    return place


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, count)
    return list(dict.fromkeys(" ".join(rng.choice(WORDS, n)) for n in lengths))


def write(path: Path, rows, header=("text", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(
            [header, *rows]
        )
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def three(place):
    """Three classes with words for names, and a teacher that reads the first token."""
    rows = [(text, CLASSES[len(text) % 3]) for text in sentences(200)]
    table = write(place / "three.csv", [(i, *row) for i, row in enumerate(rows)],
                  ("number", "Sentence", "Class"))  # fmt: skip
    return {"teacher": str(save(place / "distilbert", distilbert())), "data": str(table)}


@pytest.fixture(scope="module")
def two(place):
    """Two classes by number, Parquet, and a teacher that reads the last token."""
    import pyarrow as pa
    from pyarrow import parquet

    texts = sentences(200, seed=1)
    table = pa.table({"text": texts, "label": [len(t) % 2 for t in texts]})
    parquet.write_table(table, place / "two.parquet")
    return {"teacher": str(save(place / "llama", llama())), "data": str(place / "two.parquet")}


def distil(run: Path, given: dict, **options):
    return runs.distill(
        "distilbert-pmhc", run, progress=Silent(),
        **{"steps": 4, "batch_size": 16, "brief": True, "checkpoint_every": 2, **given, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_of_three(three, place):
    return distil(place / "run three", three), place / "run three"


@pytest.fixture(scope="module")
def run_of_two(two, place):
    return distil(place / "run two", two), place / "run two"


def answers_of_pipeline(student: Path, text: str) -> dict[str, float]:
    from transformers import pipeline

    judge = pipeline("text-classification", model=str(student))
    return {answer["label"]: answer["score"] for answer in judge(text, top_k=None)}


def answers_in_a_batch(student: Path, texts: list[str]) -> np.ndarray:
    """As a run reads them: several rows together, padded."""
    model, tokenizer, _ = text_classifiers.load(student)
    names = text_classifiers.classes(model.config)
    examples = [labelled_texts.Example(t, names[0], 1) for t in texts]
    rows = labelled_texts.tokenise(examples, names, tokenizer, 32, "texts")
    logits = binding.class_logits(model, rows.batches(len(texts), tokenizer.pad_token_id))
    return torch.softmax(logits, -1).numpy()


# ---------------------------------------------------------------------- to the end


def test_three_classes_by_name(run_of_three):
    results, run = run_of_three
    json.dumps(results, allow_nan=False)
    assert results["classes"] == list(CLASSES)
    assert set(ROW_KEYS) <= set(results["oracle"])
    assert all(value is None for value in results["oracle"].values())
    for row in ("teacher", "student", "baseline"):
        found = results[row]
        for metric in ("accuracy", "f1", "auc"):
            low, high = found["intervals"][metric]
            assert 0 <= low <= found[metric] <= high <= 1
        assert found["calibration_error"] is not None and found["perplexity"] is None
        assert set(found["classes"]) == set(CLASSES)
        assert (found["kl_to_teacher"] is None) == (row == "teacher")
    assert results["student"]["kl_to_teacher"] > 0
    assert results["student"]["parameters"] < results["teacher"]["parameters"]
    config = json.loads((run / "student" / "config.json").read_text())
    assert config["architectures"] == ["DistilBertForSequenceClassification"]
    assert config["id2label"] == {str(i): name for i, name in enumerate(CLASSES)}
    assert config["n_layers"] == 2
    line = runs.read_metrics(run)[-1]
    assert set(line["ledger"]) == {"hard", "soft", "cosine"}


def test_two_classes_by_number_and_a_teacher_that_reads_its_last_token(run_of_two):
    results, run = run_of_two
    assert results["classes"] == ["LABEL_0", "LABEL_1"]
    assert 0 <= results["student"]["auc"] <= 1 and results["student"]["kl_to_teacher"] > 0
    config = json.loads((run / "student" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["num_hidden_layers"] == 2 and config["pad_token_id"] == 0


@pytest.mark.parametrize("name", ["run_of_three", "run_of_two"])
def test_a_students_answer_is_that_of_a_plain_pipeline(name, request):
    results, run = request.getfixturevalue(name)
    texts = ["the kinase binds", "moves ions", "NA folds the proteins null DNA"]
    together = answers_in_a_batch(run / "student", texts)
    for text, row in zip(texts, together, strict=True):
        found = answers_of_pipeline(run / "student", text)
        assert list(found.values()) == pytest.approx(sorted(row, reverse=True), abs=1e-5)
        assert set(found) == set(results["classes"])
    assert np.abs(together[0] - together[1]).max() > 1e-4  # it has opinions


def test_a_resumed_run_has_the_same_bytes(two, run_of_two, tmp_path):
    seen = []

    def stop() -> bool:
        seen.append(1)
        return len(seen) == 4

    with pytest.raises(Interrupted):
        distil(tmp_path / "run", two, should_stop=stop)
    results = runs.resume(tmp_path / "run", progress=Silent(), brief=True)
    expected, whole = run_of_two
    assert results["student"] == expected["student"]
    one, other = ((p / "student" / "model.safetensors").read_bytes()
                  for p in (tmp_path / "run", whole))  # fmt: skip
    assert one == other


def test_a_student_of_another_architecture_learns_the_same_classes(two, tmp_path):
    results = distil(tmp_path / "run", two, init="random", size="1x16", variant="as-coded")
    config = models.stated(tmp_path / "run" / "student")
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["max_position_embeddings"] == 32  # as many as its teacher reads
    student, _, _ = text_classifiers.load(tmp_path / "run" / "student")
    assert list(text_classifiers.classes(student.config)) == results["classes"]


def test_what_a_teacher_of_whole_rows_says_is_kept(two):
    model, tokenizer, _ = text_classifiers.load(two["teacher"])
    corpus = labelled_texts.load(two["data"], "label")
    names = text_classifiers.classes(model.config)
    rows = labelled_texts.tokenise(corpus.train, names, tokenizer, 32, "two")
    batches = rows.batches(16, tokenizer.pad_token_id)
    live = LiveTeacher(model)
    expected = binding.class_logits(model, batches)
    assert binding.teacher_logits(live, batches).equal(expected)
    assert binding.teacher_logits(open_cache(live, batches), batches).equal(expected)
    alone = model(input_ids=torch.as_tensor(rows.tokens[3])[None]).logits[0].double()
    torch.testing.assert_close(expected[3], alone, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- architectures


@pytest.mark.parametrize("name", others())
def test_heads_of_any_kind_answer_a_padded_row_as_it_is_answered_alone(name):
    model = fresh(others()[name])
    ids = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 3, 0, 0, 0]])
    real = ids != 0
    backbone, head = models.split_head(model)
    hidden = models.last_hidden(backbone, ids, real) * real[..., None]
    first = torch.arange(6).expand_as(ids) == 0
    found = head(models.heads.rows(head, hidden, first, ids, real))
    for row, length in enumerate((6, 3)):
        alone = model(input_ids=ids[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 5e-4
    text_classifiers.check_parts(model.config, name)
    student = models.build_like(model, 2, seed=0, layer_map=(0, 2))
    assert models.initialise(student, model, (0, 2)).count("random") == 0


def test_architectures_that_cannot_be_taken_apart(tmp_path, three, capsys):
    from transformers import LongformerConfig

    config = LongformerConfig(**SMALL, **named(CLASSES), vocab_size=14, pad_token_id=0,
                              attention_window=4)  # fmt: skip
    config.architectures = ["LongformerForSequenceClassification"]
    line = refused(capsys, three["data"], described(tmp_path / "t", config))
    assert "LongformerForSequenceClassification cannot be taken apart" in line


# ---------------------------------------------------------------------- refused


def refused(capsys, data, teacher, *more: str, status: int = 1) -> str:
    found = cli.status_of(
        ["distill", "distilbert-pmhc", "--teacher", str(teacher), "--data", str(data),
         "--run", str(Path(teacher).parent / "never"), *more]
    )  # fmt: skip
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert found == status, said
    assert said.startswith("workbench: ") and "safetensors" not in said
    assert not (Path(teacher).parent / "never").exists()
    return said


def test_teachers_that_cannot_teach_classes_before_a_weight_is_read(tmp_path, three, capsys):
    data = three["data"]
    cases = {
        "regression": ({"num_labels": 1}, "tells a number, as in a regression"),
        "several": ({"problem_type": "multi_label_classification"}, "into one class"),
        "twice": ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "calls several classes 'a'"),
        "padding": ({"pad_token_id": 3}, "fills rows up with token 0, its configuration names 3"),
        "others": ({"id2label": {"0": "a", "1": "b", "2": "c"}},
                   "is none of the teacher's ('a', 'b', 'c')"),
    }  # fmt: skip
    for name, (changed, said) in cases.items():
        if name == "regression":
            changed = {"id2label": {"0": "a"}, "label2id": {"a": 0}}
        assert said in refused(capsys, data, described(tmp_path / name, distilbert(), **changed))
    bare = words_tokenizer()
    bare.pad_token = None
    assert "has no token for padding" in refused(
        capsys, data, described(tmp_path / "bare", distilbert(), bare)
    )
    line = refused(capsys, data, "pmhc", status=2)
    assert "knows peptides and HLA only" in line


@pytest.mark.parametrize(
    ("rows", "header", "more", "status", "said"),
    [
        ([("a b", "cytosol")], ("text", "y"), ["--label", "z"], 1,
         "has no column z (it has text, y)"),
        ([("a b", "cytosol")], ("x", "label"), [], 1, "expected one of texts called text or"),
        ([("a b", "cytosol")], ("text", "label"), [], 1, "holds 1 usable rows, too few"),
        ([("", "cytosol")] * 3, ("text", "label"), [], 1, "no usable row in 3 rows; the first "),
        ([(t, "cytosol") for t in sentences(90)], ("text", "label"), [], 1,
         "have the class 'cytosol'; expected two classes"),
        ([(t, CLASSES[i % 2] if i else "Cytosol") for i, t in enumerate(sentences(90))],
         ("text", "label"), [], 1, "the class 'Cytosol' is none of the teacher's ('cytosol', "),
        ([(t, i % 4) for i, t in enumerate(sentences(90))], ("text", "label"), [], 1,
         "the class '3' is none of the teacher's"),
        ([(t, "cytosol") for t in sentences(9)], ("text", "label"),
         ["--alleles", "table.csv"], 2, "--alleles is for pairs"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_learned_from(tmp_path, capsys, rows, header, more, status, said):
    teacher = described(tmp_path / "teacher", distilbert())
    table = write(tmp_path / "table.csv", rows, header)
    assert said in refused(capsys, table, teacher, *more, status=status)


def test_what_is_no_table_of_texts(tmp_path, capsys):
    teacher = described(tmp_path / "teacher", distilbert())
    assert "there is no file nowhere.csv" in refused(capsys, "nowhere.csv", teacher, "--label", "y")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    assert "cannot read" in refused(capsys, tmp_path / "broken.parquet", teacher)
    line = refused(capsys, "world:peptides", teacher, "--label", "y", status=2)
    assert "world:peptides is none" in line
    line = refused(capsys, "world:peptides", teacher, "--column", "text", status=2)
    assert "--column is about a file of data" in line
    with pytest.raises(UsageError, match="protgpt2-tiny learns none"):
        RunConfig.from_recipe("protgpt2-tiny", data="x.csv", label="label")


# ---------------------------------------------------------------------- tables


def test_rows_that_cannot_be_used_are_counted_with_their_lines(tmp_path):
    texts = sentences(60)
    rows = [[t, CLASSES[i % 3]] for i, t in enumerate(texts)]
    rows[2] = ["", "nucleus"]
    rows[4] = ["some text", " "]
    rows += [[texts[0], CLASSES[0]], [texts[1], CLASSES[2]], ["NA", "NA"]]
    examples, notes = labelled_texts.read(str(write(tmp_path / "t.tsv", rows)), "LABEL", "TEXT")
    found = {e.text: e.label for e in examples}
    assert found["NA"] == "NA"  # text, and no missing number
    assert texts[1] not in found and found[texts[0]] == CLASSES[0]
    end = len(texts) + 1
    said = " ".join(notes)
    for part in ("no text (line 4)", "no class (line 6)", f"same text again (line {end + 1})",
                 f"with two classes (lines 3, {end + 2})"):  # fmt: skip
        assert part in said


def test_nothing_is_in_both_parts_and_the_parts_are_those_of_every_table(tmp_path):
    rows = [(t, CLASSES[i % 3]) for i, t in enumerate(sentences(300))]
    one = labelled_texts.load(str(write(tmp_path / "a.csv", rows)), "label")
    other = labelled_texts.load(str(write(tmp_path / "b.csv", rows[::-1])), "label")
    apart = {e.text for e in one.validation}
    assert apart == {e.text for e in other.validation}
    assert apart.isdisjoint(e.text for e in one.train) and len(apart) + len(one.train) == len(rows)


def test_names_come_before_numbers_and_numbers_may_be_written_as_a_spreadsheet_does():
    def numbers(labels, classes):
        examples = [labelled_texts.Example("t", label, i) for i, label in enumerate(labels)]
        return labelled_texts.class_numbers(examples, classes, "it").tolist()

    assert numbers(["b", "a"], ("a", "b")) == [1, 0]
    assert numbers(["1", "0.0", "1.0"], ("a", "b")) == [1, 0, 1]
    assert numbers(["1", "0"], ("1", "0")) == [0, 1]
    for odd in (["a", "1"], ["-1"], ["0.5"], ["nan"]):
        with pytest.raises(WorkbenchError, match="is none of the teacher's"):
            numbers(odd, ("a", "b"))


def test_pairs_stay_pairs_and_other_tables_are_texts(tmp_path):
    def label(header, **options):
        table = write(tmp_path / "t.csv", [("x", "y", 1)], header)
        return RunConfig.from_recipe("distilbert-pmhc", data=str(table), **options).label

    assert label(("peptide", "allele", "label")) is None
    assert label(("peptide", "other", "label")) is None  # whose message names what lacks
    assert label(("peptide", "allele", "class"), column="peptide") == "class"
    assert label(("sequence", "other", "Class")) == "class"
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    assert RunConfig.from_recipe("distilbert-pmhc", data=str(packed)).label == "class"
    assert RunConfig.from_recipe("distilbert-pmhc").label is None
    old = RunConfig.from_recipe("distilbert-pmhc").to_json()
    del old["label"]
    assert RunConfig.from_json(old) == RunConfig.from_recipe("distilbert-pmhc")


def test_long_texts_are_cut_as_a_pipeline_cuts_them_and_that_is_said():
    class Listener(Silent):
        notes: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.notes.append(text)

    tokenizer = words_tokenizer()
    long = " ".join(WORDS)
    examples = [labelled_texts.Example(t, "a", i) for i, t in enumerate((long, "the kinase"))]
    rows = labelled_texts.tokenise(examples, ("a", "b"), tokenizer, 6, "it", Listener())
    assert tokenizer.decode(rows.tokens[0]) == "[CLS] binds DNA moves ions [SEP]"
    assert tokenizer.decode(rows.tokens[1]) == "[CLS] the kinase [SEP]"
    assert Listener.notes == [
        "note: it: 1 of 2 texts are longer than 6 tokens and are cut off there (line 0)"
    ]


# ---------------------------------------------------------------------- scores


def test_scores_of_many_classes_are_scikit_learns_weighted_ones():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 90)  # the fifth class never comes
    probabilities = rng.dirichlet(np.ones(5), 90)
    weights = rng.multinomial(90, np.full(90, 1 / 90), size=3).astype(float)
    found = many_classes.weighted(labels, probabilities, np.vstack([np.ones(90), weights]))
    points = many_classes.score(labels, probabilities)
    decided = probabilities.argmax(1)
    for i, w in enumerate(np.vstack([np.ones(90), weights])):
        f1 = metrics.f1_score(labels, decided, labels=range(4), average="macro", sample_weight=w,
                              zero_division=0)  # fmt: skip
        aucs = [metrics.roc_auc_score(labels == k, probabilities[:, k], sample_weight=w)
                for k in range(4)]  # fmt: skip
        expected = {
            "accuracy": metrics.accuracy_score(labels, decided, sample_weight=w),
            "f1": f1,
            "auc": np.mean(aucs),
            "matthews": metrics.matthews_corrcoef(labels, decided, sample_weight=w),
            "negative_log_likelihood": metrics.log_loss(labels, probabilities, sample_weight=w,
                                                        labels=range(5)),
        }  # fmt: skip
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, abs=1e-12), name
            if i == 0:
                assert getattr(points, name) == pytest.approx(value, abs=1e-12), name
    assert points.calibration_error == pytest.approx(found["calibration_error"][0], abs=1e-12)


def test_calibration_of_the_likeliest_class_by_hand():
    probabilities = np.array([[0.75, 0.25, 0.0], [0.72, 0.0, 0.28], [0.1, 0.85, 0.05]])
    scores = many_classes.score(np.array([0, 1, 1]), probabilities)
    # Two answers between 0.7 and 0.8 of which one is right, one between 0.8 and 0.9.
    assert scores.calibration_error == pytest.approx((abs(1 - 1.47) + abs(1 - 0.85)) / 3)


def test_a_model_keeps_all_of_its_own_f1_and_each_class_is_told_apart():
    rng = np.random.default_rng(1)
    labels, probabilities = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    ratio, interval = many_classes.f1_ratio(labels, probabilities, probabilities, resamples=50)
    assert (ratio, interval.low, interval.high) == (1, 1, 1)
    found = many_classes.by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ("a", "b", "c"))
    assert found["a"] == {"examples": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert found["c"] == {"examples": 0, "precision": None, "recall": None, "f1": None}


# ---------------------------------------------------------------------- what comes with a run


def test_a_dry_run_begins_nothing(three, two, tmp_path):
    for given, layers in ((three, 2), (two, 2)):
        plan = plans.plan("distilbert-pmhc", tmp_path / "never", steps=4, **given)
        assert plan["student"]["layers"] == layers and plan["reading"]["rows"] > 100
        assert plan["student"]["answers"] == plan["teacher"]["answers"]
        assert plan["seconds"]["total"] > 0 and plan["config"]["label"]
    assert not (tmp_path / "never").exists()


def test_a_whole_evaluation_draws_its_figures_and_its_card_works(three, tmp_path, monkeypatch):
    from functools import partial

    from workbench import runtime

    monkeypatch.setattr(runtime, "measure_reader", partial(runtime.measure_reader, seconds=0.0))
    results = distil(tmp_path / "run", three, steps=2, brief=False)
    assert results["student"]["latency_ms"] > 0 and results["baseline"]["latency_ms"] is None
    assert {p.stem for p in (tmp_path / "run" / "figures").iterdir()} == {
        "runtime", "ledger", "f1", "classes", "reliability",
    }  # fmt: skip
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "A classifier of texts into 3 classes" in card and "--label class" in card
    assert "macro" in card and "peptide–HLA" not in card and str(tmp_path) not in card
    code = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "run" / "student")
    exec(code, {})
    assert cli.status_of(["evaluate", str(tmp_path / "run")]) == 0


def test_a_model_is_evaluated_with_and_without_a_teacher(three, two, run_of_three):
    _, run = run_of_three
    student = str(run / "student")

    def evaluate(**options):
        config = RunConfig.from_recipe("distilbert-pmhc", data=three["data"], **options)
        return evaluation.evaluate_model(student, config)

    alone = evaluate()
    assert alone["teacher"]["f1"] is None and alone["student"]["f1"] is not None
    both = evaluate(teacher=three["teacher"])
    assert both["student"]["f1"] == alone["student"]["f1"]
    assert both["student"]["kl_to_teacher"] > 0 and both["teacher"]["f1"] is not None
    with pytest.raises(WorkbenchError, match="are not those of its teacher"):
        evaluate(teacher=two["teacher"])


@pytest.mark.parametrize("name", ["run_of_three", "run_of_two"])
def test_a_student_is_exported(name, request, tmp_path):
    results, run = request.getfixturevalue(name)
    found = portable.export(run, out=tmp_path / "onnx", progress=Silent())
    onnx = found["files"]["float32"]
    assert onnx["largest_difference"] < 1e-4
    for metric in ("accuracy", "f1", "auc"):
        assert onnx[metric] == pytest.approx(results["student"][metric], abs=1e-6)
    assert results["classes"][0] in (tmp_path / "onnx" / "README.md").read_text()


def test_the_lab_shows_the_texts_and_their_classes(three, tmp_path):
    from workbench import Lab

    lab = Lab("distilbert-pmhc;steps=2", directory=tmp_path, batch_size=16, **three)
    try:
        results = lab.run()
        look = lab.engine.moment.look
    finally:
        lab.close()
    assert results["classes"] == list(CLASSES)
    assert look.probe.words == CLASSES and look.logits["student"].shape == (3,)


def test_a_protein_classifier_of_strangers(tmp_path):
    from workbench.worlds import proteins

    world = proteins.default_world()
    texts, families = world.sample_with_families(80, seed=3)
    names = [world.profiles[k].name for k in families]
    small = {**SMALL, "max_position_embeddings": 96}
    found = strangers.esm_classifier(tmp_path / "esm", texts, names, steps=2, **small)
    assert 0 <= found["accuracy"] <= 1
    model, tokenizer, _ = text_classifiers.load(tmp_path / "esm")
    assert text_classifiers.classes(model.config) == tuple(sorted(set(names)))
    rows = labelled_texts.tokenise(
        [labelled_texts.Example(texts[0], names[0], 1)], sorted(set(names)), tokenizer, 96, "it"
    )
    assert rows.tokens[0].tolist() == tokenizer(texts[0])["input_ids"]
