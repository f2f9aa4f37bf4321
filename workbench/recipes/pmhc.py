"""DistilBERT-pMHC: half of a protein BERT, which says whether an HLA molecule presents a peptide.

Facts: model card LeCastre/DistilBert-pMHC (no formula, T, α, figure or data set; teacher
"ProteinBERT", half of its layers, made after the distillation of a RoBERTa model); reference
implementation: R. Ouazan Reboul, "Distillation of BERT-like models: the code", with the
repository remi-or/distilCamembert; input and teacher: arceda/pmhc.
"""

from __future__ import annotations

from workbench.objective import CosineTerm, HardTerm, Objective, SoftTerm
from workbench.recipes.recipe import Recipe, Scale, Shape, Variant

_VARIANTS = {
    "corrected": Variant(
        "corrected",
        Objective(cosine=CosineTerm("hidden"), scores="example"),
        "cross-entropy from logits, T² restored, label not softened (Hinton et al. 2015, section "
        "2.1), and DistilBERT's cosine of the last hidden states (Sanh et al. 2019, section 2)",
    ),
    "as-published": Variant(
        "as-published",
        Objective(
            soft=SoftTerm(temperature_squared=False, entropy_kept=True),
            cosine=CosineTerm("hidden"),
            scores="example",
        ),
        "model card, in words only: cross-entropy, softmax temperature and intermediate outputs, "
        "after DistilBERT; no T², no weights named",
    ),
    "as-coded": Variant(
        "as-coded",
        Objective(
            hard=HardTerm(operand="probabilities", softened=True),
            soft=SoftTerm(temperature_squared=False, operand="probabilities"),
            cosine=CosineTerm("answers"),
            averaged=True,
            scores="example",
        ),
        "reference implementation: softmax before CrossEntropyLoss, T in the hard term too, no "
        "T², cosine of the answers, mean of the three terms",
    ),
}

RECIPES = (
    Recipe(
        name="distilbert-pmhc",
        title="DistilBERT-pMHC",
        task="text-classification",
        # The reference implementation's demonstration: T = 2, all terms weighted alike.
        temperature=2.0,
        alpha=0.5,
        init="2i",
        scales={
            "classroom": Scale(
                teacher=Shape(layers=8, heads=4, width=64, positions=64, vocabulary=25),
                student=Shape(layers=4, heads=4, width=64, positions=64, vocabulary=25),
                teacher_source="pmhc",
                data_source="world:peptides",
                train_sequences=6000,
                validation_sequences=3000,
                steps=400,
                batch_size=64,
                learning_rate=5e-4,
                warmup=40,
                weight_decay=0.01,
                activation="gelu_pytorch_tanh",
                evaluations=6,
            ),
            # 8,192 positions and 30 tokens as TAPE's bert-base has, which the card most likely
            # means. Neither it nor ProtBert (30 layers, 1,024 wide) is a classifier: either is
            # fine-tuned first (`workbench teach pmhc --base`) and then given with --teacher.
            # The card names no schedule: learning rate, warm-up, decay and batch are those that
            # arceda/pmhc fine-tunes its teachers with, steps and pairs are this project's.
            "paper": Scale(
                teacher=Shape(layers=12, heads=12, width=768, positions=8192, vocabulary=30),
                student=Shape(layers=6, heads=12, width=768, positions=8192, vocabulary=30),
                teacher_source="Rostlab/prot_bert",
                data_source="world:peptides",
                train_sequences=100_000,
                validation_sequences=10_000,
                steps=30_000,
                batch_size=16,
                learning_rate=5e-5,
                warmup=1000,
                weight_decay=0.01,
                activation="gelu",
                teacher_revision="7a894481acdc12202f0a415dd567f6cfdb698908",
            ),
        },
        variants=_VARIANTS,
        sources=(
            "huggingface.co/LeCastre/DistilBert-pMHC",
            "github.com/remi-or/distilCamembert",
            "github.com/arceda/pmhc",
            "arXiv 1910.01108",
        ),
    ),
)
