"""TextBrewer's ``GeneralDistiller``, with adaptors that say where logits and the loss are.

    textbrewer_distiller.py FOLDER            the teacher runs at every step
    textbrewer_distiller.py FOLDER cached     ``BasicDistiller`` keeps the teacher's logits

Its soft loss is the cross-entropy with the teacher's answer, without T²: the weight makes up for
the one, the other adds the teacher's entropy to the value and nothing to the gradient. With its
logits kept it draws the order of the batches itself.
"""

from __future__ import annotations

import sys
import tempfile

import paced
import torch
from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig

#: More than any measurement asks for; the driver ends it.
MANY = 1_000_000


def logits_and_mask(batch, outputs) -> dict:
    """Logits that predict a token, and which of these tokens are real."""
    return {"logits": outputs.logits[:, :-1], "logits_mask": batch["attention_mask"][:, 1:]}


def main() -> None:
    """Train until the driver says stop."""
    cached = sys.argv[2:] == ["cached"]
    job = paced.start("TextBrewer, logits kept" if cached else "TextBrewer")
    teacher, student = job.models()
    temperature, alpha = job.config["temperature"], job.config["alpha"]

    def student_adaptor(batch, outputs) -> dict:
        if cached:
            next(ticks)
        return {**logits_and_mask(batch, outputs), "losses": outputs.loss}

    class Watched(BasicDistiller if cached else GeneralDistiller):
        def compute_loss(self, results_student, results_teacher):
            loss, parts = super().compute_loss(results_student, results_teacher)
            job.note_loss(loss)
            return loss, parts

    with tempfile.TemporaryDirectory() as scratch:
        distiller = Watched(
            TrainingConfig(output_dir=scratch, device="cpu", ckpt_steps=MANY),
            DistillationConfig(
                temperature=temperature,
                kd_loss_type="ce",
                kd_loss_weight=(1 - alpha) * temperature**2,
                hard_label_weight=alpha,
                is_caching_logits=cached,
            ),
            teacher,
            student,
            logits_and_mask,
            student_adaptor,
        )
        settings = {
            "scheduler_class": torch.optim.lr_scheduler.LambdaLR,
            "scheduler_args": {"lr_lambda": job.factor},
            "max_grad_norm": job.clip,
        }
        with distiller:
            if cached:
                ticks = job.ticks()
                batches = job.different_batches()
                distiller.train(
                    job.optimizer(student), batches, num_epochs=MANY // len(batches), **settings
                )
            else:
                distiller.train(job.optimizer(student), job, num_steps=MANY, **settings)


if __name__ == "__main__":
    main()
