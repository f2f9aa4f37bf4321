"""The loop that tutorials teach: teacher without gradients, two losses, backward, step.

The teacher runs at every step and its answers are compared with the student's at every scored
position. What a careful beginner would add to a tutorial on images is added: padding does not
count, and labels are shifted.
"""

from __future__ import annotations

import paced
import torch
from torch.nn import functional


def main() -> None:
    """Train until the driver says stop."""
    job = paced.start("tutorial loop")
    teacher, student = job.models()
    optimizer = job.optimizer(student)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, job.factor)
    temperature, alpha = job.config["temperature"], job.config["alpha"]
    running_loss = 0.0
    for batch in job:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        labels = batch["labels"][:, 1:]
        optimizer.zero_grad()
        with torch.no_grad():
            teacher_logits = teacher(**inputs).logits[:, :-1]
        student_logits = student(**inputs).logits[:, :-1]

        scored = labels != paced.IGNORED
        soft_targets = functional.softmax(teacher_logits[scored] / temperature, dim=-1)
        soft_prob = functional.log_softmax(student_logits[scored] / temperature, dim=-1)
        soft_loss = functional.kl_div(soft_prob, soft_targets, reduction="batchmean")
        label_loss = functional.cross_entropy(student_logits[scored], labels[scored])
        loss = alpha * label_loss + (1 - alpha) * temperature**2 * soft_loss

        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), job.clip)
        optimizer.step()
        scheduler.step()
        job.note_loss(loss)
        running_loss += loss.item()


if __name__ == "__main__":
    main()
