"""What is exported: which model, of what kind, and by what data its quality is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench import models, run_directory, tasks
from workbench.classifying import classifiers, text_classifiers
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.records import hub
from workbench.run_directory import RunDirectory

#: Longest input where neither model nor tokenizer says one.
UNSAID_LENGTH = 512
#: Tokenizers without a limit of their own say a number beyond this.
_NO_LIMIT = 10**6


@dataclass(frozen=True)
class Subject:
    """A model to be exported; nothing of it is loaded.

    Attributes:
        given: what the user called it.
        place: its directory, or its id on the hub.
        recipe: a recipe with models of its kind.
        config: whose held-out data its quality is judged by; None where no data is known.
        default_out: where the export goes unless the user says otherwise.
    """

    given: str
    place: Path | str
    recipe: str
    config: RunConfig | None
    default_out: Path

    @property
    def task(self) -> tasks.Task:
        """Of the model."""
        return tasks.of(self.recipe) if self.config is None else tasks.of_run(self.config)

    def load(self) -> tuple[Any, Any]:
        """Model (float32, eval mode, gradients off) and tokenizer, from safetensors only.

        Raises:
            WorkbenchError: if they cannot be loaded, or do not fit the data they are judged by.
        """
        model, tokenizer = models.load_pretrained(self.place, self.task.kind)
        if self.config and self.task.kind is models.CLASSIFIER:
            if self.config.label is None:
                classifiers.check_fit(model, tokenizer, self.given)
            else:
                text_classifiers.check(model.config, tokenizer, self.given)
        return model.eval().requires_grad_(False), tokenizer

    def directory(self) -> Path:
        """Where the files lie; of a model from the hub after it has been loaded."""
        if isinstance(self.place, Path):
            return self.place
        from huggingface_hub import snapshot_download

        at = hub.locate(self.place)
        return Path(snapshot_download(at.name, revision=at.commit, local_files_only=True))


def find(
    given: str | Path,
    *,
    data: str | None = None,
    column: str | None = None,
    label: str | None = None,
    alleles: str | None = None,
) -> Subject:
    """What a run directory, a model directory, a built-in name or a hub id stands for.

    Args:
        given: one of these; of a run the student is meant.
        data: judged by this instead of the run's own or the recipe's data.
        column: of a table in ``data``.
        label: column of the classes in a table of texts.
        alleles: table of pseudo-sequences for ``data``.

    Raises:
        UsageError: if the model is of a kind that cannot be exported, or options contradict.
        WorkbenchError: if there is no such model, or the run has no student yet.
    """
    if data is None and (column or label or alleles):
        raise UsageError(
            "--column, --label and --alleles are about --data; give --data FILE with them"
        )
    path = Path(given)
    own: RunConfig | None = None
    if run_directory.is_run(path):
        own = run_directory.load_config(RunDirectory(path))
        place: Path | str = RunDirectory(path).student
        if not (place / "config.json").exists():
            raise WorkbenchError(
                f"{path} has no finished student; go on with `workbench resume {path}`"
            )
        recipe, out = own.recipe, path / "onnx"
        _check_kind(place)
    else:
        place = models.resolve_model(given)
        recipe = tasks.recipe_for(_check_kind(place))
        name = place.resolve().name if isinstance(place, Path) else hub.name(place)
        out = Path(f"{name.rpartition('/')[2]}-onnx")
        if isinstance(place, Path):
            if run_directory.is_run(place.resolve().parent):
                own = run_directory.load_config(RunDirectory(place.resolve().parent))
            elif place.parent in (models.BUILT_IN_TEACHERS, models.BUILT_IN_STUDENTS):
                own = RunConfig.from_recipe(recipe)
    if data is not None:
        # As for a run on that data: a number of sequences belongs to the built-in source.
        other = RunConfig.from_recipe(
            recipe, data=data, column=column, label=label, alleles=alleles
        )
        own = other if own is None else replace(
            own, data=data, column=column, label=other.label, alleles=alleles,
            train_sequences=other.train_sequences,
        )  # fmt: skip
    return Subject(str(given), place, recipe, own, out)


def longest_input(model: Any, tokenizer: Any) -> int:
    """Most tokens that a model takes at once."""
    said = [models.context(model, _NO_LIMIT), tokenizer.model_max_length]
    known = [n for n in said if n and n < _NO_LIMIT]
    return min(known) if known else UNSAID_LENGTH


def _check_kind(place: Path | str) -> list[str]:
    """Architectures of a model that can be exported, read from its configuration alone."""
    if isinstance(place, Path):
        config = models.stated(place)
    else:
        config = models.load_facts(place)[0].to_dict()
    found = config.get("architectures") or []
    if config.get("is_encoder_decoder"):
        raise UsageError(
            f"{place} holds {' '.join(found) or 'a model'}, an encoder with a decoder (seq2seq); "
            "expected a causal language model, a classifier or a masked language model"
        )
    tasks.recipe_for(found)
    return found
