"""PyTorch to ONNX, and ONNX to int8."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench import models
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import onnxruntime

    from workbench.portable.agreement import Answer

#: A protobuf file holds less than 2 GiB; weights beyond this lie in a second file beside it.
LARGEST_FILE = 1_900_000_000
INPUTS = ("input_ids", "attention_mask")


class Logits(nn.Module):
    """A model that gives its logits and nothing else."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # A cache of keys and values serves generation, and would be a dozen more outputs.
        self.options = {"use_cache": False} if model.can_generate() else {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """From ``[batch, length]`` tokens, and 1 where a token is real, to logits."""
        given = {} if attention_mask is None else {"attention_mask": attention_mask}
        return self.model(input_ids=input_ids, **given, **self.options).logits


def needs_mask(model: Any) -> bool:
    """Whether padding on the right has to be hidden from a model."""
    return not models.ignores_padding(model)


def write(model: Any, path: Path, longest: int) -> list[Path]:
    """Write a model as ONNX with dynamic batch and length, from tokens to logits.

    Inputs ``input_ids`` and, unless the model is causal, ``attention_mask`` (1 where a token is
    real), both int64 ``[batch, length]``; output ``logits``, float32. Weights beyond
    `LARGEST_FILE` bytes lie in a second file beside the first.

    Args:
        model: in eval mode.
        path: of the file.
        longest: most tokens in an input.

    Returns:
        The files written.

    Raises:
        WorkbenchError: if PyTorch cannot export the model.
    """
    # Sizes other than 0 and 1, which the exporter would take for constants.
    tokens = torch.zeros((2, max(2, min(7, longest))), dtype=torch.int64)
    given = (tokens, torch.ones_like(tokens)) if needs_mask(model) else (tokens,)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=max(2, longest))}
    try:
        with _quiet():
            program = torch.onnx.export(
                Logits(model).eval(),
                given,
                dynamo=True,
                dynamic_shapes=(sizes,) * len(given),
                input_names=INPUTS[: len(given)],
                output_names=["logits"],
                verbose=False,
            )
    except Exception as error:
        # The exporter runs the model's own code on symbols: what comes out of it may be anything.
        raise WorkbenchError(
            f"{type(model).__name__} cannot be written as ONNX: {_reason(error)}"
        ) from error
    _forget_origins(program.model)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    apart = weights > LARGEST_FILE
    program.save(path, external_data=apart)
    return [path, path.with_name(f"{path.name}.data")] if apart else [path]


def write_int8(source: Path, path: Path) -> list[Path]:
    """Write another ONNX file with matrices and tables in int8.

    Weights are rounded once, a scale for each column of a matrix; what flows between them is
    rounded while the model runs, with the range of each tensor found on the spot (dynamic
    quantisation). Weights get 7 bits of the 8: two products of full range overflow the 16 bits
    in which processors without VNNI add them up, and the same file would answer otherwise there.

    Args:
        source: float32, of `write`.
        path: of the file to write.

    Returns:
        The files written.

    Raises:
        WorkbenchError: if the quantiser cannot.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    apart = source.with_name(f"{source.name}.data").exists()
    _untie(model)
    # The quantiser turns matrices round, and then trips over the shapes that they had.
    del model.graph.value_info[:]
    try:
        with _quiet():
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=apart,
            )
    except OSError:
        raise  # the disk's
    except Exception as error:
        # It walks through a graph that it did not make, and raises whatever it trips over.
        raise WorkbenchError(
            f"{source.name} cannot be written in int8: {_reason(error)}"
        ) from error
    beside = path.with_name(f"{path.name}.data")
    return [path, beside] if beside.exists() else [path]


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load an ONNX file on the CPU.

    Raises:
        WorkbenchError: if onnxruntime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its errors have no base of their own: an operation that it does not know, for one.
        raise WorkbenchError(f"onnxruntime cannot run {path.name}: {_reason(error)}") from error


def answer_of(session: onnxruntime.InferenceSession) -> Answer:
    """What an ONNX file says, as `agreement.Answer`."""
    names = {entry.name for entry in session.get_inputs()}

    def answer(ids: Tensor, real: Tensor) -> Tensor:
        given = {"input_ids": ids.numpy(), "attention_mask": real.long().numpy()}
        feed = {name: given[name] for name in given if name in names}
        return torch.from_numpy(session.run(["logits"], feed)[0])

    return answer


def answer_of_pytorch(model: Any) -> Answer:
    """What a model says in PyTorch, always with its mask, as `agreement.Answer`."""
    logits = Logits(model)

    @torch.no_grad()
    def answer(ids: Tensor, real: Tensor) -> Tensor:
        return logits(ids, real.long())

    return answer


def _untie(model: Any) -> None:
    """Give a table that is also used transposed, as the head, a transposed copy.

    Only a matrix that lies in the file can be rounded beforehand. In int8 both together take
    half of what the table took.
    """
    from onnx import numpy_helper

    tables = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Transpose" and node.input[0] in tables:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            table = numpy_helper.to_array(tables[node.input[0]])
            copy = np.ascontiguousarray(table.transpose(order))
            model.graph.initializer.append(numpy_helper.from_array(copy, node.output[0]))
            model.graph.node.remove(node)


def _forget_origins(program: Any) -> None:
    """Take out where in whose source each operation came from: 1 MB, and paths of this machine."""
    graph = program.graph
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    program.metadata_props.clear()


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings off the screen; they are about their own insides."""
    silent, before = logging.NullHandler(), logging.root.manager.disable
    # With no handler at hand, `logging.warning` of the quantiser would install one for good.
    logging.root.addHandler(silent)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(silent)
