"""How many times faster the published students are than their teachers: `workbench bench headline`.

First by the protocol of 2024 that the published figures come from (`workbench bench protocol` makes
all five calls of it and nothing else), then as one would really use them: sequences singly and in
batches, with and without a cache of keys and values, in bfloat16 and int8. All shapes are those of
the published models; the weights are random, because speed depends on shapes and not on what the
weights are. For that reason nothing here says anything about quality, and generation is told not to
stop early: where a trained model ends a sequence would depend on its weights.
"""

from __future__ import annotations

import copy
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench import models, recipes
from workbench.classifying import classifiers
from workbench.columns import aligned
from workbench.hidden_words import masked_lm
from workbench.progress import Progress, for_here
from workbench.recipes import Shape

#: ``notebooks/compare_student_teacher.ipynb`` of ewijaya/protein-lm-distill at commit c6743f6: one
#: call of the text-generation pipeline on ten prompts "A" in a batch of ten, without a warm-up;
#: seconds of its five calls, on a graphics processor that it does not name.
PUBLISHED_SOURCE = "ewijaya/protein-lm-distill, commit c6743f6, compare_student_teacher.ipynb"
PUBLISHED = {
    "teacher": (2.8603, 2.8514, 2.8314, 2.8354, 2.8626),
    "tiny": (0.4699, 0.4660, 0.4653, 0.4662, 0.4647),
    "small": (0.6361, 0.6393, 0.6331, 0.6323, 0.6320),
    "medium": (1.0850, 1.0727, 1.0723, 1.0785, 1.0765),
}
#: Its settings; the cache of keys and values is on by default.
SAMPLING = {"do_sample": True, "top_k": 950, "repetition_penalty": 1.2}
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class Mode:
    """One way to use a model.

    Attributes:
        name: for people.
        batch: sequences in a call.
        repeats: calls that count, if there is time for them.
        seconds: no further call begins after so many; the first is always made.
        precision: of weights and products; int8 is dynamic: weights stored in 8 bits, inputs of a
            product rounded to 8 bits as they come, on a CPU only.
        cache: of keys and values, where tokens are generated.
    """

    name: str
    batch: int
    repeats: int = 2
    seconds: float = 15.0
    precision: Precision = "float32"
    cache: bool = True


PROTOCOL = Mode("2024 protocol", 10, repeats=5, seconds=60.0)
GENERATING = (
    PROTOCOL,
    Mode("one sequence", 1),
    Mode("one sequence, no cache", 1, cache=False),
    Mode("batch of 32", 32),
    Mode("2024 protocol, bfloat16", 10, precision="bfloat16"),
    Mode("2024 protocol, int8", 10, precision="int8"),
)
READING = tuple(
    Mode(f"batch of {batch}, {precision}", batch, repeats, 10.0, precision)
    for precision in ("float32", "bfloat16", "int8")
    for batch, repeats in ((1, 20), (32, 5))
)


@dataclass(frozen=True)
class Family:
    """A teacher and its students, measured alike.

    Attributes:
        name: of the teacher.
        kind: "causal" models generate, "encoder" and "classifier" read.
        shapes: by name, the teacher first.
        activation: of all.
        length: tokens of a sequence when all are written or read.
        modes: in which they are measured.
        published: seconds of published calls by name of the model, and their source.
        note: what a reader has to know.
    """

    name: str
    kind: Literal["causal", "encoder", "classifier"]
    shapes: dict[str, Shape]
    activation: str
    length: int
    modes: tuple[Mode, ...]
    published: dict[str, tuple[float, ...]] | None = None
    note: str = ""


def families() -> tuple[Family, ...]:
    """The published models, in the shapes of the recipes."""

    def paper(name: str) -> recipes.Scale:
        return recipes.get(name).scale("paper")

    sizes = {size: paper(f"protgpt2-{size}") for size in ("tiny", "small", "medium")}
    halved, compact = paper("distilbert-pmhc"), paper("compactbiobert")
    return (
        Family(
            "ProtGPT2", "causal",
            {"teacher": sizes["tiny"].teacher, **{s: x.student for s, x in sizes.items()}},
            sizes["tiny"].activation, 100, GENERATING, PUBLISHED,
            note=f"Published: {PUBLISHED_SOURCE}.",
        ),
        Family(
            "BioBERT", "encoder",
            {
                "teacher": compact.teacher,
                "CompactBioBERT": compact.student,
                "TinyBioBERT": paper("tinybiobert").student,
            },
            compact.activation, 128, READING,
            note="Encoders without a head. DistilBioBERT has the shape of CompactBioBERT. No "
            "latency of these models was found published.",
        ),
        Family(
            "protein BERT (TAPE)", "classifier",
            {"teacher": halved.teacher, "half of its layers": halved.student},
            halved.activation, 50, READING,
            note="Classifiers of 34 residues of an HLA and up to 14 of a peptide. The card of "
            "DistilBERT-pMHC names no latency.",
        ),
    )  # fmt: skip


def measure(
    measured: Sequence[Family] | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Time every model of every family, each in a process of its own, which frees its memory.

    Args:
        measured: families; by default the published ones.
        progress: who is told; a bar by default.

    Returns:
        ``families``: a list of ``{"name", "kind", "length", "note", "models": [...]}``; a model is
        ``{"name", "parameters", "modes": {mode: {"batch", "precision", "cache", "times",
        "seconds", "tokens_per_second", "speedup", "published_seconds", "published_speedup"}}}``.
        ``seconds`` is the mean of ``times``, as the published figures are; ``speedup`` the
        teacher's seconds over the model's. Null where a mode does not exist (int8 on a GPU).
    """
    measured = families() if measured is None else measured
    progress = progress or for_here()
    found = []
    try:
        for family in measured:
            lines = []
            for name in family.shapes:
                progress.stage(f"{family.name}: {name}")
                lines.append(_in_a_process(family, name))
            found.append(
                {
                    "name": family.name,
                    "kind": family.kind,
                    "length": family.length,
                    "note": family.note,
                    "models": _compared(family, lines),
                }
            )
    finally:
        progress.close()
    return {"families": found, "device": str(_device())}


def protocol() -> dict[str, Any]:
    """The protocol of 2024 alone, all of its five calls, however long the teacher takes.

    Returns:
        As `measure`, of one family and one mode.
    """
    patient = replace(PROTOCOL, seconds=float("inf"))
    return measure([replace(families()[0], modes=(patient,))])


def text(measured: dict[str, Any]) -> str:
    """A table a family: seconds of a call, and in brackets how many times faster."""
    parts = []
    for family in measured["families"]:
        models_ = family["models"]
        head = ["seconds (times faster)", *(model["name"] for model in models_), "calls"]
        lines = [head, ["parameters", *(f"{m['parameters']:,}" for m in models_), ""]]
        for mode in models_[0]["modes"]:
            cells = [model["modes"][mode] for model in models_]
            if any(cell and cell["published_seconds"] for cell in cells):
                lines.append(
                    [f"{mode}, published",
                     *(_cell(c["published_seconds"], c["published_speedup"]) for c in cells), "5"]
                )  # fmt: skip
            calls = "/".join(str(len(c["times"])) for c in cells if c)
            said = [_cell(c["seconds"], c["speedup"]) if c else "–" for c in cells]
            lines.append([mode, *said, calls])
        what = "generated" if family["kind"] == "causal" else "read"
        title = f"{family['name']}, {family['length']} tokens {what}. {family['note']}"
        parts.append(f"{title}\n{aligned(lines)}")
    return "\n\n".join(parts)


def _cell(seconds: float | None, speedup: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g} ({speedup:.2f})"


# ---------------------------------------------------------------------- measuring


def _in_a_process(family: Family, name: str) -> dict[str, Any]:
    """One model in all modes; a process that is new each time holds one model's memory only."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(time_model, family, name, torch.get_num_threads()).result()


@torch.no_grad()
def time_model(family: Family, name: str, threads: int) -> dict[str, Any]:
    """Build one model of a family and time it in each mode; see `measure`."""
    torch.set_num_threads(threads)
    model = build(family, name).to(_device())
    line: dict[str, Any] = {"name": name, "parameters": models.parameters(model), "modes": {}}
    # int8 is made in the place of the float32 weights, so it comes last.
    for precision in ("float32", "bfloat16", "int8"):
        modes = [mode for mode in family.modes if mode.precision == precision]
        if not modes:
            continue
        if precision == "int8" and model.device.type != "cpu":
            line["modes"] |= {mode.name: None for mode in modes}
            continue
        used = _in_precision(model, precision)
        for mode in modes:
            line["modes"][mode.name] = _timed(used, family, mode)
        del used
    # In the order in which they are told.
    line["modes"] = {mode.name: line["modes"][mode.name] for mode in family.modes}
    return line


def build(family: Family, name: str) -> nn.Module:
    """A model of a family with random weights from seed 0, in eval mode."""
    shape, activation = family.shapes[name], family.activation
    if family.kind == "causal":
        return models.build_causal_lm(shape, activation=activation, seed=0)
    if family.kind == "classifier":
        return classifiers.build(shape, activation=activation, seed=0)
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = masked_lm.config(shape, activation=activation)
        return BertModel(config, add_pooling_layer=False).eval()


def _timed(model: nn.Module, family: Family, mode: Mode) -> dict[str, Any]:
    call = _call(model, family, mode)
    call(min(family.length, 8))  # warms up
    times: list[float] = []
    while not times or (len(times) < mode.repeats and sum(times) < mode.seconds):
        started = time.perf_counter()
        call(family.length)
        times.append(time.perf_counter() - started)
    seconds = statistics.fmean(times)
    return {
        "batch": mode.batch,
        "precision": mode.precision,
        "cache": mode.cache if family.kind == "causal" else None,
        "times": times,
        "seconds": seconds,
        "tokens_per_second": mode.batch * family.length / seconds,
    }


def _call(model: nn.Module, family: Family, mode: Mode) -> Callable[[int], None]:
    """What is timed, for a number of tokens."""
    device = _device()

    def run(length: int) -> None:
        if family.kind == "causal":
            generate(model, mode.batch, length, cache=mode.cache)
        else:
            read(model, mode.batch, length)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def generate(model: nn.Module, batch: int, length: int, *, cache: bool, seed: int = 42) -> Tensor:
    """Sequences of ``length`` tokens, the first of which is the prompt, ``[batch, length]``.

    Sampled as in 2024; the process-wide random state is left as it was.
    """
    device = _device()
    prompt = torch.ones((batch, 1), dtype=torch.long, device=device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            min_length=length,
            max_length=length,
            use_cache=cache,
            pad_token_id=model.config.eos_token_id,
            **SAMPLING,
        )


def read(model: nn.Module, batch: int, length: int) -> Tensor:
    """What an encoder or a classifier makes of random tokens without padding."""
    generator = torch.Generator().manual_seed(0)
    # The first five stand for padding and other marks.
    ids = torch.randint(5, model.config.vocab_size, (batch, length), generator=generator)
    return model(input_ids=ids.to(_device()))[0]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ---------------------------------------------------------------------- precision


def _in_precision(model: nn.Module, precision: Precision) -> nn.Module:
    """The model itself, a copy in bfloat16, or the model with its products turned to int8."""
    if precision == "float32":
        return model
    if precision == "bfloat16":
        return copy.deepcopy(model).to(torch.bfloat16)
    return to_int8(model)


def to_int8(model: nn.Module) -> nn.Module:
    """Replace every product with a weight by PyTorch's dynamic int8 one, in place.

    GPT-2 keeps its weights transposed, in a ``Conv1D``; they are first put into linear layers,
    which compute the same. The tables of tokens and positions stay in float32, and so does
    attention itself. A head that shares the table of tokens gets a copy of its own in int8.
    """
    from torch.ao.quantization import quantize_dynamic
    from transformers.pytorch_utils import Conv1D

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                setattr(module, name, _linear(child))
    with _without_deprecations():
        return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)


def _linear(layer: nn.Module) -> nn.Linear:
    inputs, outputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs, device="meta")
    linear.weight = nn.Parameter(layer.weight.data.T.contiguous(), requires_grad=False)
    linear.bias = nn.Parameter(layer.bias.data, requires_grad=False)
    return linear


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """PyTorch says that this quantisation will move to another package; in 2.13 it is there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*quantize_per_.* deprecated.*")
        yield


# ---------------------------------------------------------------------- comparing


def _compared(family: Family, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines with how many times faster each is than the teacher, here and published."""
    teacher = lines[0]["modes"]
    published = family.published or {}
    for line in lines:
        for name, cell in line["modes"].items():
            if cell is None:
                continue
            cell["speedup"] = teacher[name]["seconds"] / cell["seconds"]
            known = published.get(line["name"]) if name == PROTOCOL.name else None
            own = statistics.fmean(known) if known else None
            cell["published_seconds"] = own
            cell["published_speedup"] = own and statistics.fmean(published["teacher"]) / own
    return lines
