"""DistilBioBERT, TinyBioBERT and CompactBioBERT: three ways to shrink one biomedical BERT.

Facts: Rohanian et al., "On the effectiveness of compact biomedical transformers" (arXiv
2209.03182; Bioinformatics 39(3), btad103), released scripts
nlpie-research/Compact-Biomedical-Transformers; TinyBERT: Jiao et al. (arXiv 1909.10351) and
huawei-noah/Pretrained-Language-Model. Shapes are computed from the released configurations.

Published weights stand as they are: α·hard + (1−α)·soft times `combined` gives 2 and 5 for α = 2/7
and 7, 1 and 5 for α = 1/6 and 6.
"""

from __future__ import annotations

from workbench.objective import CosineTerm, Objective, SoftTerm
from workbench.recipes.recipe import Recipe, Scale, Shape, Variant
from workbench.terms import AttentionTerm, HiddenTerm

_TASK = "fill-mask"
_PAPER_TEACHER = Shape(layers=12, heads=12, width=768, positions=512, vocabulary=28996)
_PAPER_HALF = Shape(layers=6, heads=12, width=768, positions=512, vocabulary=28996)
_PAPER_TINY = Shape(
    layers=4, heads=12, width=312, positions=512, vocabulary=28996, feed_forward=1200
)
# As many layers as the published ones, an eighth of the width; the tiny student keeps its
# proportions, 312 : 768 as 40 : 96 and 1200 : 312 as 154 : 40. It copies nothing and needs twice as
# many steps, each of which costs it half.
VOCABULARY = 3162
TEACHER = Shape(layers=12, heads=4, width=96, positions=64, vocabulary=VOCABULARY)
_HALF = Shape(layers=6, heads=4, width=96, positions=64, vocabulary=VOCABULARY)
_TINY = Shape(layers=4, heads=4, width=40, positions=64, vocabulary=VOCABULARY, feed_forward=154)

_SOURCES = (
    "arXiv 2209.03182",
    "github.com/nlpie-research/Compact-Biomedical-Transformers",
    "huggingface.co/dmis-lab/biobert-base-cased-v1.2",
)


def _scales(
    student: Shape,
    paper_student: Shape,
    *,
    learning_rate: float,
    steps: int,
    warmup: int,
    weight_decay: float,
) -> dict[str, Scale]:
    return {
        "classroom": Scale(
            teacher=TEACHER,
            student=student,
            teacher_source="biobert",
            data_source="world:biomedical",
            train_sequences=4000,
            validation_sequences=1000,
            steps=steps,
            batch_size=32,
            learning_rate=learning_rate,
            warmup=steps // 10,
            weight_decay=0.01,
            activation="gelu_pytorch_tanh",
            evaluations=6,
        ),
        # The scripts': 100,000 steps of 192 rows (24 on each of 8 GPUs) of at most 256 tokens,
        # AdamW, linear warm-up and decay, full precision.
        "paper": Scale(
            teacher=_PAPER_TEACHER,
            student=paper_student,
            teacher_source="dmis-lab/biobert-base-cased-v1.2",
            data_source="MedRAG/pubmed",
            train_sequences=None,
            validation_sequences=1000,
            steps=100_000,
            batch_size=192,
            learning_rate=5e-4,
            warmup=warmup,
            weight_decay=weight_decay,
            activation="gelu",
            length=256,
            micro_batch=24,
            teacher_revision="67c9c25b46986521ca33df05d8540da1210b3256",
            data_revision="33da3593d5756bc04c8909f170003c0b14197957",
        ),
    }


_DISTIL = Objective(cosine=CosineTerm("hidden"), combined=7.0, scores="masked")
_COMPACT = Objective(
    hidden=HiddenTerm("2i+1", weight=3.0),
    attention=AttentionTerm("2i+1", weight=3.0),
    combined=6.0,
    scores="masked",
)
_TINY_TERMS = Objective(
    soft=SoftTerm(entropy_kept=True),
    hidden=HiddenTerm("uniform", embeddings=True, measure="mse", projection="each"),
    attention=AttentionTerm("uniform", measure="mse", operand="scores"),
    scores="masked",
)

RECIPES = (
    Recipe(
        name="distilbiobert",
        title="DistilBioBERT",
        task=_TASK,
        temperature=2.0,
        alpha=2 / 7,
        init="2i",
        scales=_scales(
            _HALF, _PAPER_HALF, learning_rate=1e-3, steps=600, warmup=5000, weight_decay=0.0
        ),
        variants={
            "corrected": Variant(
                "corrected",
                _DISTIL,
                "the published loss, and the head that tells a hidden word copied with the rest",
            ),
            "as-published": Variant(
                "as-published",
                _DISTIL,
                "5·T²·KL on hidden tokens + 2·MLM + 1·(1−cos) of the last hidden states, T = 2 "
                "(Sanh et al. 2019, as the paper takes it up); the same as corrected",
            ),
            "as-coded": Variant(
                "as-coded",
                _DISTIL,
                "the script saves its copied start without the head: the transformation before "
                "the decoder begins at random",
                copies_head=False,
            ),
        },
        sources=(*_SOURCES, "arXiv 1910.01108"),
    ),
    Recipe(
        name="tinybiobert",
        title="TinyBioBERT",
        task=_TASK,
        temperature=1.0,
        alpha=0.0,
        init="random",
        scales=_scales(
            _TINY, _PAPER_TINY, learning_rate=6e-3, steps=1200, warmup=10_000, weight_decay=1e-4
        ),
        variants={
            "corrected": Variant(
                "corrected",
                _TINY_TERMS,
                "TinyBERT's terms; means over real tokens only, the soft cross-entropy not divided "
                "by the vocabulary",
            ),
            "as-published": Variant(
                "as-published",
                _TINY_TERMS,
                "TinyBERT (Jiao et al. 2020, equations 7 to 10): attention scores before softmax "
                "over layers 3m+2, hidden states over 3m with a projection for each, no labels; "
                "the same as corrected",
            ),
            "as-coded": Variant(
                "as-coded",
                Objective(
                    soft=SoftTerm(entropy_kept=True),
                    hidden=HiddenTerm(
                        "uniform", embeddings=True, measure="mse", projection="shared"
                    ),
                    attention=AttentionTerm("uniform", measure="mse"),
                    scores="masked",
                ),
                "the script of TinyBioBERT: attention after softmax, one projection for all layers",
            ),
        },
        sources=(*_SOURCES, "arXiv 1909.10351"),
    ),
    Recipe(
        name="compactbiobert",
        title="CompactBioBERT",
        task=_TASK,
        temperature=2.0,
        alpha=1 / 6,
        init="2i+1",
        scales=_scales(
            _HALF, _PAPER_HALF, learning_rate=1e-3, steps=600, warmup=5000, weight_decay=1e-4
        ),
        variants={
            "corrected": Variant(
                "corrected",
                _COMPACT,
                "the published loss; KL of attention a mean over heads and queries, teacher in "
                "eval mode, head copied",
            ),
            "as-published": Variant(
                "as-published",
                _COMPACT,
                "1·MLM + 3·(KL of attention + (1−cos) of hidden states, layer by layer) + 5·KL; "
                "the same as corrected",
            ),
            "as-coded": Variant(
                "as-coded",
                Objective(
                    hidden=HiddenTerm("2i+1", weight=3.0),
                    attention=AttentionTerm("2i+1", averaged_over_keys=True, weight=3.0),
                    combined=6.0,
                    scores="masked",
                ),
                "the script: T = 1, KL of attention divided by the number of keys as well, "
                "dropout of the teacher left on, start without the head",
                temperature=1.0,
                copies_head=False,
                teacher_dropout=0.1,
            ),
        },
        sources=_SOURCES,
    ),
)
