"""protgpt2-distilled-tiny, -small and -medium: a protein language model with fewer, thinner layers.

Facts: model cards littleworth/protgpt2-distilled-{tiny,small,medium} and
nferruz/ProtGPT2; training script ewijaya/protein-lm-distill, commit c6743f6 (2024).
"""

from __future__ import annotations

from workbench.objective import HardTerm, Objective, SoftTerm
from workbench.recipes.recipe import Recipe, Scale, Shape, Variant

_VARIANTS = {
    "corrected": Variant(
        "corrected",
        Objective(),
        "labels shifted, T² restored, both terms a mean over tokens "
        "(Hinton et al. 2015, section 2.1; the script's own later revision does the same)",
    ),
    "as-published": Variant(
        "as-published",
        Objective(soft=SoftTerm(temperature_squared=False)),
        "model cards: L = α·L_hard + (1−α)·L_soft at T = 10, without T²",
    ),
    "as-coded": Variant(
        "as-coded",
        Objective(
            hard=HardTerm(shifted=False),
            soft=SoftTerm(temperature_squared=False, reduction="batchmean"),
        ),
        "script of May 2024: hard label not shifted, KLDivLoss('batchmean') over three axes, no T²",
    ),
}

_PAPER_TEACHER = Shape(layers=36, heads=20, width=1280, positions=1024, vocabulary=50257)
_CLASSROOM_TEACHER = Shape(layers=9, heads=7, width=112, positions=128, vocabulary=21)


def _recipe(
    size: str,
    paper: Shape,
    classroom: Shape,
    *,
    paper_learning_rate: float,
    classroom_learning_rate: float,
) -> Recipe:
    return Recipe(
        name=f"protgpt2-{size}",
        title=f"protgpt2-distilled-{size}",
        task="text-generation",
        temperature=10.0,
        alpha=0.1,
        init="random",
        scales={
            "classroom": Scale(
                teacher=_CLASSROOM_TEACHER,
                student=classroom,
                teacher_source="protgpt2",
                data_source="world:proteins",
                train_sequences=1000,
                validation_sequences=500,
                steps=1200,
                batch_size=32,
                learning_rate=classroom_learning_rate,
                warmup=100,
                weight_decay=0.01,
                activation="gelu_pytorch_tanh",
            ),
            # The script's: 32 blocks of 512 tokens a step (one at a time, 32 accumulated, fp16),
            # AdamW, linear decay, no warm-up; three passes over 10 or 20 % of the *validation*
            # split, whose size no source states: the number of steps is this project's.
            "paper": Scale(
                teacher=_PAPER_TEACHER,
                student=paper,
                teacher_source="nferruz/ProtGPT2",
                data_source="nferruz/UR50_2021_04",
                train_sequences=None,
                validation_sequences=1000,
                steps=100_000,
                batch_size=32,
                learning_rate=paper_learning_rate,
                warmup=0,
                weight_decay=0.01,
                activation="gelu_new",
                length=512,
                # Eight at a time, four times a step, in half precision: fp16 in the script.
                micro_batch=8,
                precision="bfloat16",
                teacher_revision="f71aa6cf063ad784ebd53881d11332fd098eaa58",
                data_revision="main",
            ),
        },
        variants=_VARIANTS,
        sources=(
            f"huggingface.co/littleworth/protgpt2-distilled-{size}",
            "huggingface.co/nferruz/ProtGPT2",
            "github.com/ewijaya/protein-lm-distill at c6743f6",
        ),
    )


# Classroom students keep the published proportions among themselves exactly: layers 4 : 6 : 12
# as 2 : 3 : 6, widths 512 : 768 : 1024 as 48 : 72 : 96. Their teacher would then have 18 layers;
# it has 9, so that it can be trained on two cores in half an hour and stays under 6 MB.
# The 2024 runs name learning rates for tiny (1e-3) and medium (1e-4); small's is from the 2026
# revision of the script.
RECIPES = (
    _recipe(
        "tiny",
        Shape(layers=4, heads=4, width=512, positions=1024, vocabulary=50257),
        Shape(layers=2, heads=4, width=48, positions=128, vocabulary=21),
        paper_learning_rate=1e-3,
        classroom_learning_rate=4e-3,
    ),
    _recipe(
        "small",
        Shape(layers=6, heads=8, width=768, positions=1024, vocabulary=50257),
        Shape(layers=3, heads=6, width=72, positions=128, vocabulary=21),
        paper_learning_rate=5e-4,
        classroom_learning_rate=3e-3,
    ),
    _recipe(
        "medium",
        Shape(layers=12, heads=16, width=1024, positions=1024, vocabulary=50257),
        Shape(layers=6, heads=8, width=96, positions=128, vocabulary=21),
        paper_learning_rate=1e-4,
        classroom_learning_rate=2e-3,
    ),
)
