"""Teachers of architectures that no recipe names: taken apart, copied, distilled to the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from workbench import corpora, inner, metrics, models, runs
from workbench.errors import WorkbenchError
from workbench.foreign import dialects
from workbench.hidden_words import masked_lm, texts
from workbench.hidden_words.masking import Masker
from workbench.progress import Silent
from workbench.teaching import strangers
from workbench.worlds import proteins

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
         "num_attention_heads": 2, "max_position_embeddings": 96}  # fmt: skip


@pytest.fixture(scope="module")
def sequences():
    return proteins.sample(80, 3)


@pytest.fixture(scope="module")
def fasta(sequences, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.fasta"
    path.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(sequences)))
    return path


@pytest.fixture(scope="module")
def llama(sequences, tmp_path_factory):
    place = tmp_path_factory.mktemp("decoder") / "llama"
    strangers.llama(place, sequences, steps=2, **SMALL)
    return place


@pytest.fixture(scope="module")
def esm(sequences, tmp_path_factory):
    place = tmp_path_factory.mktemp("encoder") / "esm"
    strangers.esm(place, sequences, steps=2, **SMALL)
    return place


def distil(recipe: str, run: Path, teacher: Path, data: Path, **options):
    return runs.distill(
        recipe, run, progress=Silent(), teacher=str(teacher), data=str(data), steps=3, brief=True,
        **options,
    )  # fmt: skip


# ---------------------------------------------------------------------- to the end


@pytest.mark.parametrize("init", ["2i", "random"])
def test_a_llama_is_distilled_and_its_student_used_elsewhere(llama, fasta, tmp_path, init):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    results = distil("protgpt2-tiny", tmp_path / "run", llama, fasta, init=init)
    assert results["oracle"]["perplexity"] is None  # nobody knows the truth about a file
    assert results["student"]["kl_to_teacher"] > 0
    assert results["student"]["perplexity"] == pytest.approx(
        results["student"]["perplexity_per_residue"], rel=0.1
    )
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student")
    assert type(student).__name__ == ("LlamaForCausalLM" if init == "2i" else "GPT2LMHeadModel")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "student")
    ids = tokenizer("MKV", return_tensors="pt")["input_ids"]
    assert student(input_ids=ids).logits.shape == (1, 3, len(tokenizer))


@pytest.mark.parametrize(
    ("recipe", "options", "family"),
    [
        ("compactbiobert", {}, "EsmForMaskedLM"),
        ("distilbiobert", {"init": "random", "size": "2x16"}, "BertForMaskedLM"),
        ("tinybiobert", {"variant": "as-coded", "size": "2x8"}, "BertForMaskedLM"),
    ],
)
def test_an_esm_is_distilled_and_its_student_fills_masks(
    esm, fasta, tmp_path, recipe, options, family
):
    from transformers import pipeline

    results = distil(recipe, tmp_path / "run", esm, fasta, **options)
    assert results["student"]["perplexity"] > 1
    assert results["student"]["kl_to_teacher"] > 0
    last = runs.read_metrics(tmp_path / "run")[-1]
    terms = {"compactbiobert": {"hidden", "attention"}, "distilbiobert": {"cosine"},
             "tinybiobert": {"hidden", "attention"}}[recipe]  # fmt: skip
    assert terms <= set(json.dumps(last).replace('"', " ").split())
    fill = pipeline("fill-mask", model=str(tmp_path / "run" / "student"))
    assert type(fill.model).__name__ == family
    assert len(fill("M K <mask> V L")) == 5


def test_an_esm_classifier_says_whether_a_peptide_binds(tmp_path):
    from transformers import EsmConfig, EsmForSequenceClassification

    tokenizer = strangers.encoder_tokenizer(tmp_path / "esm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = EsmConfig(
            **SMALL, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id,
            position_embedding_type="rotary", num_labels=2,
        )  # fmt: skip
        model = EsmForSequenceClassification(config)
    model.save_pretrained(tmp_path / "esm")
    tokenizer.save_pretrained(tmp_path / "esm")
    results = runs.distill(
        "distilbert-pmhc", tmp_path / "run", progress=Silent(), teacher=str(tmp_path / "esm"),
        steps=2, train_sequences=100, validation_sequences=60, brief=True,
    )  # fmt: skip
    assert 0 <= results["student"]["auc"] <= 1
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert config["architectures"] == ["EsmForSequenceClassification"]
    assert config["num_hidden_layers"] == 2


def test_a_stranger_is_judged_by_sequences_of_all_lengths(tmp_path, monkeypatch):
    judged, learned = [], []
    evaluate, step = strangers.Distiller.evaluate, strangers.Distiller.step

    def judge(self, batches, *rest):
        judged.extend(batches)
        return evaluate(self, batches, *rest)

    def learn(self, batch):
        learned.append(batch)
        return step(self, batch)

    monkeypatch.setattr(strangers.Distiller, "evaluate", judge)
    monkeypatch.setattr(strangers.Distiller, "step", learn)
    strangers.llama(tmp_path / "llama", proteins.sample(700, 3), steps=2, **SMALL)
    held_out = torch.cat([batch.lengths for batch in judged]).double()
    # A batch is of similar lengths; one from the beginning and one from the end of a pool are not.
    assert held_out.std() > 10 and len(judged) >= 3
    assert not {batch.index for batch in judged} & {batch.index for batch in learned}


# ---------------------------------------------------------------------- cards and exports


def masked_card(run: Path, tokenizer) -> str:
    from workbench.cards import card_usage

    text = (run / "student" / "README.md").read_text(encoding="utf-8")
    assert card_usage.code("fill-mask", tokenizer) in text
    return text


def test_the_card_of_an_esm_s_student_is_about_proteins(esm, fasta, tmp_path):
    from transformers import pipeline

    from workbench.cards import card_usage

    distil("distilbiobert", tmp_path / "run", esm, fasta, init="random", size="2x16")
    tokenizer = masked_lm.load(esm)[1]
    text = masked_card(tmp_path / "run", tokenizer)
    assert "A masked language model of proteins" in text and "- protein\n" in text
    assert "one sequence in ten" in text and "one residue hidden" in text
    for word in ("Gefitinib", "biomedical", "one line in ten"):
        assert word not in text.split("## Citation")[0].replace("BioBERT", ""), word
    fill = pipeline("fill-mask", model=str(tmp_path / "run" / "student"))
    example = dialects.hidden_example(tokenizer)
    assert tokenizer.unk_token_id not in tokenizer(example)["input_ids"]
    assert len(fill(example, top_k=3)) == 3 and repr(example) in card_usage.code(
        "fill-mask", tokenizer
    )


def test_the_programs_of_a_llama_begin_with_its_own_mark(llama):
    from workbench.cards import card_usage
    from workbench.portable import card

    model, tokenizer, _ = models.load_causal_lm(llama)
    assert "write('<bos>', num_return_sequences=3)" in card_usage.code("text-generation", tokenizer)
    program = card.program("text-generation", model, tokenizer, masked=False, file="model.onnx")
    assert "('<bos>', '<eos>')" in program.replace("[", "(").replace("]", ")")
    assert "add_special_tokens=False" in program and "\\n" not in program


def test_scores_of_a_llama_are_the_likelihoods_that_it_is_judged_by(llama):
    from workbench.at_work import open_load

    model, tokenizer, _ = models.load_causal_lm(llama)
    sequences = [s[:60] for s in proteins.sample(5, seed=1)]
    rows = corpora.tokenise(sequences, tokenizer, "plain", 96)
    quality = metrics.evaluate(model, corpora.make_batches(rows, 5, 0), rows.residues)
    scores = open_load.likelihoods(model, tokenizer)(sequences)
    assert -sum(scores) / quality.tokens == pytest.approx(quality.negative_log_likelihood, rel=1e-5)
    # A model without a table of positions has no longest input.
    bloom = fresh(decoders()["bloom"], "AutoModelForCausalLM")
    assert len(open_load.likelihoods(bloom, tokenizer)(["MKV" * 60])) == 1


def test_a_student_of_proteins_is_exported_with_its_run_s_data(esm, fasta, tmp_path):
    from workbench.config import RunConfig
    from workbench.portable import quality, subject

    model, tokenizer, _ = masked_lm.load(esm)
    config = RunConfig.from_recipe("distilbiobert", data=str(fasta), length=40)
    longest = subject.longest_input(model, tokenizer)
    data = quality.held_out(config, model, tokenizer, longest)
    assert longest == 96 and max(int(b.lengths.max()) for b in data.batches) == 40
    roberta = fresh(encoders()["roberta"], "AutoModelForMaskedLM")
    tokenizer.model_max_length = 10**9
    assert subject.longest_input(roberta, tokenizer) == 94


# ---------------------------------------------------------------------- taken apart


def decoders() -> dict:
    import transformers as t

    more = {"num_key_value_heads": 1, "head_dim": 8}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 24}
    return {
        # One of each thing that families do differently: names, one matrix for all, capped or
        # scaled answers, several kinds of layers, no limit of positions, no attention at all.
        "gpt_neox": t.GPTNeoXConfig(**SMALL, **tokens),
        "opt": t.OPTConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, ffn_dim=32,
                           max_position_embeddings=96, word_embed_proj_dim=16, **tokens),
        "qwen3": t.Qwen3Config(**SMALL, **more, **tokens),
        "gemma2": t.Gemma2Config(**SMALL, **more, final_logit_softcapping=5.0, **tokens),
        "granite": t.GraniteConfig(**SMALL, num_key_value_heads=1, logits_scaling=3.0, **tokens),
        "bloom": t.BloomConfig(hidden_size=16, n_layer=4, n_head=2, **tokens),
        "mamba": t.MambaConfig(hidden_size=16, num_hidden_layers=4, state_size=4, **tokens),
    }  # fmt: skip


def encoders() -> dict:
    import transformers as t

    tokens = {"vocab_size": 24, "pad_token_id": 1}
    return {
        "esm": t.EsmConfig(**SMALL, **tokens, mask_token_id=5, position_embedding_type="absolute"),
        "roberta": t.RobertaConfig(**SMALL, **tokens),
        "distilbert": t.DistilBertConfig(dim=16, n_layers=4, n_heads=2, hidden_dim=32, **tokens),
        "electra": t.ElectraConfig(**SMALL, embedding_size=8, **tokens),
        "modernbert": t.ModernBertConfig(**SMALL, **tokens, cls_token_id=2, sep_token_id=3,
                                         bos_token_id=2, eos_token_id=3),
        "deberta-v2": t.DebertaV2Config(**SMALL, **tokens, relative_attention=True,
                                        pos_att_type=["p2c", "c2p"]),
    }  # fmt: skip


def fresh(config, auto_class: str):
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, auto_class).from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4)  # fresh weights answer nearly evenly
    return model


@pytest.mark.parametrize(
    ("name", "auto_class"),
    [(n, "AutoModelForCausalLM") for n in ("gpt_neox", "opt", "qwen3", "gemma2", "granite",
                                           "bloom", "mamba")]
    + [(n, "AutoModelForMaskedLM") for n in ("esm", "roberta", "distilbert", "electra",
                                             "modernbert", "deberta-v2")],
)  # fmt: skip
def test_all_layers_copied_are_the_teacher_and_half_of_them_a_model_that_loads(
    name, auto_class, tmp_path
):
    import transformers

    teacher = fresh((decoders() | encoders())[name], auto_class)
    tokens = torch.arange(6, 18).view(2, 6)
    with torch.no_grad():
        expected = teacher(input_ids=tokens).logits
        backbone, head = models.split_head(teacher)
        hidden = backbone(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(head(hidden), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(head(hidden[1]), expected[1], rtol=1e-4, atol=1e-4)
        whole = models.build_like(teacher, 4, seed=1, layer_map=(0, 1, 2, 3))
        report = models.initialise(whole, teacher, (0, 1, 2, 3))
        assert report.count("random") == 0
        torch.testing.assert_close(whole(input_ids=tokens).logits, expected)
    half = models.build_like(teacher, 2, seed=1, layer_map=(0, 2))
    models.initialise(half, teacher, (0, 2))
    half.save_pretrained(tmp_path / "half")
    loaded = getattr(transformers, auto_class).from_pretrained(tmp_path / "half")
    assert loaded.config.num_hidden_layers == 2
    assert models.fingerprint(loaded) == models.fingerprint(half)
    models.check_frozen(teacher.requires_grad_(False), half)


def test_kinds_of_layers_come_with_the_layers():
    from transformers import Gemma3TextConfig

    config = Gemma3TextConfig(
        **SMALL, vocab_size=24, num_key_value_heads=1, head_dim=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    other = models.other_depth(config, (1, None, 3))
    assert other.num_hidden_layers == 3
    assert other.layer_types == ["full_attention", "full_attention", "full_attention"]
    assert config.num_hidden_layers == 4


def test_positions_that_can_be_used():
    roberta = fresh(encoders()["roberta"], "AutoModelForMaskedLM")
    assert models.context(roberta, 7) == 96 - 2  # two rows before the first position
    roberta(input_ids=torch.full((1, 94), 6))
    with pytest.raises((IndexError, RuntimeError)):
        roberta(input_ids=torch.full((1, 95), 6))
    assert models.context(fresh(decoders()["bloom"], "AutoModelForCausalLM"), 7) == 7


def test_attention_scores_of_rotary_models_are_refused_and_of_absolute_ones_taken():
    wanted = inner.Looks(attention="scores")
    encoder = fresh(encoders()["roberta"], "AutoModelForMaskedLM")
    inner.prepare(encoder, wanted)
    from transformers import EsmConfig

    rotary = fresh(
        EsmConfig(**SMALL, vocab_size=24, pad_token_id=1, mask_token_id=5,
                  position_embedding_type="rotary"),
        "AutoModelForMaskedLM",
    )  # fmt: skip
    with pytest.raises(WorkbenchError, match="more than queries times keys"):
        inner.prepare(rotary, wanted)


# ---------------------------------------------------------------------- tokenizers


def test_marks_and_residues_of_tokenizers(tmp_path):
    from workbench.classifying import classifiers

    esm = strangers.encoder_tokenizer(tmp_path)
    bert = classifiers.residue_tokenizer()
    words = masked_lm.word_pieces(["A cat sat down.", "Gefitinib inhibits EGFR."], size=300)
    assert dialects.marks(esm) == ([esm.cls_token_id], [esm.eos_token_id])
    assert dialects.marks(bert) == ([bert.cls_token_id], [bert.sep_token_id])
    assert dialects.marks(words) == ([words.cls_token_id], [words.sep_token_id])
    assert dialects.marks(strangers.decoder_tokenizer()) == ([], [])
    assert dialects.reads_residues(esm) and dialects.reads_residues(bert)
    assert not dialects.reads_residues(words)
    assert dialects.first_token(strangers.decoder_tokenizer()) == 1
    assert dialects.first_token(models.residue_tokenizer()) == 0
    assert not dialects.breaks_lines(strangers.decoder_tokenizer())


def test_a_protein_of_a_row_or_more_is_read_whole(esm):
    model, tokenizer, _ = masked_lm.load(esm)
    sequence = "".join(proteins.sample(4, 9))
    assert len(sequence) > 96
    rows = texts.tokenise([sequence], tokenizer, models.context(model, 8))
    inside = [token for row in rows.tokens for token in row[1:-1]]
    assert "".join(tokenizer.convert_ids_to_tokens(inside)) == sequence
    assert rows.residues == len(sequence)
    batch = corpora.make_batches(rows, 4, tokenizer.pad_token_id)
    masker = Masker(tokenizer, model.config.vocab_size)
    quality = metrics.evaluate(model, [masker.hide(b, seed=0) for b in batch], None,
                               scores="masked")  # fmt: skip
    assert quality.perplexity > 1


def test_proteins_for_readers_of_words_and_sentences_for_readers_of_residues(esm, fasta, tmp_path):
    with pytest.raises(WorkbenchError, match="the model's tokenizer reads words"):
        runs.distill("distilbiobert", tmp_path / "a", progress=Silent(), data=str(fasta), steps=1)
    with pytest.raises(WorkbenchError, match="reads proteins, a token a residue"):
        runs.distill("distilbiobert", tmp_path / "b", progress=Silent(), teacher=str(esm), steps=1)
