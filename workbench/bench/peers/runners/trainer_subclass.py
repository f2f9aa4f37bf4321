"""A ``transformers.Trainer`` with a teacher: ``compute_loss`` overridden, as its guides show.

The labels' loss is the model's own; the soft one compares the answers at scored positions.
"""

from __future__ import annotations

import tempfile

import paced
import torch
from torch.nn import functional
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments


class Batches(IterableDataset):
    """The job's batches as a data set whose every item is a whole batch."""

    def __init__(self, job: paced.Job) -> None:
        self.job = job

    def __iter__(self):
        return iter(self.job)


class DistillationTrainer(Trainer):
    """Trains its model on labels and on a teacher's softened answers."""

    def __init__(self, *args, teacher, job: paced.Job, **options) -> None:
        super().__init__(*args, **options)
        self.teacher = teacher.to(self.args.device)
        self.job = job

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """α·labels + (1−α)·T²·KL, both a mean over scored positions."""
        temperature, alpha = self.job.config["temperature"], self.job.config["alpha"]
        outputs = model(**inputs)
        with torch.no_grad():
            teacher_outputs = self.teacher(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
            )
        scored = inputs["labels"][:, 1:] != paced.IGNORED
        soft_teacher = functional.softmax(
            teacher_outputs.logits[:, :-1][scored] / temperature, dim=-1
        )
        soft_student = functional.log_softmax(outputs.logits[:, :-1][scored] / temperature, dim=-1)
        soft = functional.kl_div(soft_student, soft_teacher, reduction="batchmean")
        loss = alpha * outputs.loss + (1 - alpha) * temperature**2 * soft
        self.job.note_loss(loss)
        return (loss, outputs) if return_outputs else loss


def main() -> None:
    """Train until the driver says stop."""
    job = paced.start("Trainer subclass")
    teacher, student = job.models()
    optimizer = job.optimizer(student)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, job.factor)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=1,
            max_steps=1_000_000,  # the driver ends it
            max_grad_norm=job.clip,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        DistillationTrainer(
            student,
            arguments,
            teacher=teacher,
            job=job,
            train_dataset=Batches(job),
            data_collator=lambda items: items[0],
            optimizers=(optimizer, scheduler),
        ).train()


if __name__ == "__main__":
    main()
