"""From a configuration to everything a run works with: teacher, data, cache, two students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from workbench import corpora, inner, layer_maps, models, recipes, student_size, tasks
from workbench.config import RunConfig
from workbench.corpora import Batch, Rows
from workbench.devices import processes
from workbench.distiller import Distiller, Schedule
from workbench.errors import UsageError
from workbench.foreign import suitability
from workbench.hidden_words.masking import Masker
from workbench.inner import Matcher
from workbench.layer_maps import LayerMap
from workbench.models import Origin
from workbench.objective import Objective
from workbench.progress import Progress
from workbench.teacher_cache import LiveTeacher, Teacher, kept_or_live

if TYPE_CHECKING:
    from workbench.shared_baseline import SharedBaseline

#: Longest row of texts to be classified where a model's architecture sets no limit, tokens.
UNSAID_LENGTH = 512


@dataclass
class Workshop:
    """All that a run works with.

    Attributes:
        teacher_model: frozen.
        tokenizer: the teacher's, and so the students'.
        corpus: sequences, pairs of peptide and allele, or texts with classes.
        train: rows, and ``train_batches`` made of them.
        validation: rows, and ``validation_batches`` made of them.
        teacher: what the teacher says about the training batches.
        validation_teacher: what it says about the held-out ones.
        masker: hides tokens of the training batches, anew at every step; None where none are.
        seed: of the masks.
        origin: which weights the teacher has.
        student: learns from teacher and labels.
        baseline: the same student from the same start, from the same batches, labels only;
            in a sweep one that runs share.
    """

    teacher_model: object
    tokenizer: object
    corpus: Any
    train: Rows
    train_batches: Sequence[Batch]
    validation: Rows
    validation_batches: Sequence[Batch]
    teacher: Teacher
    validation_teacher: Teacher
    masker: Masker | None
    seed: int
    origin: Origin
    student: Distiller
    baseline: Distiller | SharedBaseline

    def batch(self, index: int, step: int) -> Batch:
        """Training batch number ``index`` as it is learned from at ``step``, from 1.

        With hidden tokens, these are a function of seed, step and batch: a run that goes on from
        a checkpoint hides the same ones.
        """
        batch = self.train_batches[index]
        if self.masker is None:
            return batch
        return replace(self.masker.mask(batch, seed=self.seed, draw=step), draw=step)


def prepare(config: RunConfig, progress: Progress) -> Workshop:
    """Load, tokenise, ask the teacher, build the students.

    Raises:
        WorkbenchError: if teacher or data cannot be used.
    """
    suitability.check_run(config)
    team = processes.join()
    accelerator = processes.accelerator()
    team.before_my_turn()
    progress.stage("loading the teacher and the data")
    task = tasks.of_run(config)
    teacher_model, tokenizer, _ = task.load_model(config.teacher)
    corpus = task.load_corpus(config, tokenizer)
    for note in corpus.notes:
        progress.note(f"note: {note}")
    depth = teacher_model.config.num_hidden_layers
    layer_map = layer_maps.parse(config.start, depth)
    shape = student_shape(config, teacher_model, len(tokenizer), layer_map)
    longest = row_length(config, shape.positions)
    train, validation = task.rows(corpus, tokenizer, teacher_model, longest, progress)
    pad = task.pad(tokenizer)
    train_batches = corpora.make_batches(train, config.batch_size, pad)
    masker = task.masker(tokenizer, teacher_model, whole_words=config.whole_words)
    validation_batches = task.held_out(
        corpora.make_batches(validation, config.batch_size, pad), masker
    )
    recipe = recipes.get(config.recipe)
    scale = recipe.scale(config.scale)
    variant = recipe.variant(config.variant)
    objective = objective_of(config)
    objective.check_widths(shape.width, teacher_model.config.hidden_size)

    live = LiveTeacher(
        teacher_model,
        accelerator.device,
        looks=inner.looks(objective),
        dropout=variant.teacher_dropout,
        seed=config.seed,
    )
    progress.stage("asking the teacher")
    validation_teacher = kept_or_live(live, validation_batches)
    teacher: Teacher = live
    # What is hidden changes from step to step, and with it what the teacher says.
    if config.cached and masker is None:
        teacher = kept_or_live(
            live,
            train_batches,
            reads_in=config.precision,
            progress=lambda done, total: progress.advance(done, total, {}),
            note=progress.note,
        )
    team.after_my_turn()
    if teacher is live and processes.wants_shards():
        teacher = live.in_shards()

    def build() -> object:
        if layer_map is None:
            student = task.build(
                shape, scale, seed=config.seed, tokenizer=tokenizer, like=teacher_model
            )
        else:
            student = models.build_like(
                teacher_model, shape.layers, seed=config.seed, layer_map=layer_map
            )
            copied = layer_map if layer_maps.copies(config.init) else None
            reports.append(
                models.initialise(student, teacher_model, copied, copies_head=variant.copies_head)
            )
        return student

    reports: list[models.Initialisation] = []

    def distiller(objective, teacher, alpha) -> Distiller:
        student = build()
        matcher = None
        if teacher is not None and objective.looks_inside:
            matcher = Matcher(objective, student.config, teacher_model.config, seed=config.seed)
        return Distiller(
            student,
            objective,
            teacher,
            temperature=config.temperature,
            alpha=alpha,
            learning_rate=config.learning_rate,
            schedule=Schedule(config.steps, config.warmup),
            weight_decay=config.weight_decay,
            accelerator=accelerator,
            matcher=matcher,
            micro_batch=config.micro_batch,
            reads_in=config.precision,
        )

    shop = Workshop(
        teacher_model=teacher_model,
        tokenizer=tokenizer,
        corpus=corpus,
        train=train,
        train_batches=train_batches,
        validation=validation,
        validation_batches=validation_batches,
        teacher=teacher,
        validation_teacher=validation_teacher,
        masker=masker,
        seed=config.seed,
        origin=models.origin(teacher_model),
        student=distiller(objective, teacher, config.alpha),
        # The baseline always learns the right labels, whatever the variant does to its own.
        baseline=distiller(recipe.variant("corrected").objective, None, 1.0),
    )
    if reports:
        progress.note(f"note: {reports[0]}; the baseline has the same start")
    models.check_frozen(teacher_model, shop.student.student)
    models.check_frozen(teacher_model, shop.baseline.student)
    return shop


def row_length(config: RunConfig, positions: int) -> int:
    """Longest row in tokens: what the run asks for, or all that the models take.

    A recipe's own length is the published one and gives way to models that take less.

    Raises:
        UsageError: if another one is more than they take.
    """
    if config.length is None:
        return positions
    if config.length == recipes.get(config.recipe).scale(config.scale).length:
        return min(config.length, positions)
    if config.length > positions:
        raise UsageError(
            f"--length is {config.length} and the models take {positions} tokens; give at most "
            "that many"
        )
    return config.length


def unlimited(config: RunConfig) -> int:
    """Longest row, tokens, for a model whose architecture sets no limit."""
    own = recipes.get(config.recipe).scale(config.scale).student.positions
    return own if config.label is None else max(own, UNSAID_LENGTH)


def objective_of(config: RunConfig) -> Objective:
    """The recipe's objective, with the layers and weights that a configuration asks for."""
    objective = recipes.get(config.recipe).variant(config.variant).objective
    objective = matched(objective, config.match)
    return replace(objective, given=tuple((config.weights or {}).items()))


def matched(objective: Objective, layers: str | None) -> Objective:
    """The objective with another map for the terms that compare layers."""
    if layers is None:
        return objective
    hidden, attention = objective.hidden, objective.attention
    return replace(
        objective,
        hidden=None if hidden is None else replace(hidden, layers=layers),
        attention=None if attention is None else replace(attention, layers=layers),
    )


def student_shape(
    config: RunConfig, teacher_model, tokens: int, layer_map: LayerMap | None
) -> recipes.Shape:
    """The recipe's student, in the size asked for, with the teacher's vocabulary and context.

    With a layer map: as wide as the teacher, because a narrower layer cannot hold a copy,
    and with as many layers as the map has entries.

    With the vocabulary of the teacher's embedding, not of its tokenizer: the two
    differ where the table is padded, and the soft loss needs equal widths.
    """
    shape = recipes.get(config.recipe).scale(config.scale).student
    if layer_map is not None:
        own = teacher_model.config
        return recipes.Shape(
            layers=len(layer_map),
            heads=getattr(own, "num_attention_heads", 1),
            width=own.hidden_size,
            positions=models.context(teacher_model, unlimited(config)),
            vocabulary=own.vocab_size,
        )
    shape = student_size.resize(shape, config.size)
    objective = recipes.get(config.recipe).variant(config.variant).objective
    heads = getattr(teacher_model.config, "num_attention_heads", shape.heads)
    if objective.attention is not None and shape.width % heads == 0:
        shape = replace(shape, heads=heads)  # compared head by head
    context = models.context(teacher_model, unlimited(config))
    # A recipe's student has room for a pair of peptide and HLA; texts are as long as they are.
    longest = shape.positions if config.label is None else context
    return replace(
        shape,
        vocabulary=max(tokens, teacher_model.config.vocab_size),
        positions=min(longest, context),
    )
