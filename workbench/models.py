"""Models: load a teacher, build a student, count parameters, prove that the teacher is frozen."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError, first_line
from workbench.foreign import heads
from workbench.initialisation import Initialisation as Initialisation
from workbench.initialisation import initialise as initialise
from workbench.initialisation import layer_list
from workbench.layer_maps import LayerMap
from workbench.recipes.recipe import Shape
from workbench.records import hub

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUILT_IN_TEACHERS = Path(__file__).parents[1] / "data" / "teachers"
#: Students that the course shows before its reader has trained one.
BUILT_IN_STUDENTS = BUILT_IN_TEACHERS.parent / "students"
#: Embedding tables are often padded to a multiple of 128 rows; a larger gap is another vocabulary.
EMBEDDING_PADDING = 128
#: Families whose causal attention makes a mask over padding on the right superfluous.
_CAUSAL_TYPES = {"gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "opt", "bloom"}

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Kind:
    """A kind of model to load.

    Attributes:
        name: for messages.
        auto_class: of transformers, that loads it.
        endings: of the architectures that are of this kind; empty allows any.
        may_lack: beginnings of names of weights that need not be there.
        advice: what to do where weights lack.
    """

    name: str
    auto_class: str
    endings: tuple[str, ...]
    may_lack: tuple[str, ...] = ()
    advice: str = "expected the complete model"


CAUSAL = Kind("a causal language model", "AutoModelForCausalLM", ("LMHeadModel", "ForCausalLM"))
CLASSIFIER = Kind(
    "a classifier",
    "AutoModelForSequenceClassification",
    ("ForSequenceClassification",),
    advice="an encoder becomes a classifier by training: workbench teach pmhc --base ID "
    "--data FILE --out DIR",
)
MASKED = Kind(
    "a masked language model",
    "AutoModelForMaskedLM",
    ("ForMaskedLM",),
    # A model trained with a second task besides has heads for it that are not asked for.
    advice="expected an encoder with the head that tells hidden words (BertForMaskedLM)",
)
#: To be made a classifier: its head, and the pooler under it, are made anew where they lack.
ENCODER = Kind("an encoder", CLASSIFIER.auto_class, (), ("classifier.", "bert.pooler."))


def gpt2_config(shape: Shape, *, activation: str, end_of_text: int = 0):
    """A GPT-2 configuration of that shape without dropout, so that a run can be repeated exactly.

    Args:
        shape: layers, heads, width, positions, vocabulary.
        activation: as transformers names it.
        end_of_text: id of the token that begins and ends a sequence.
    """
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.positions,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        activation_function=activation,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )


def build_causal_lm(shape: Shape, *, activation: str, seed: int, end_of_text: int = 0):
    """A freshly initialised GPT-2; the same seed gives the same weights.

    The process-wide random state is left as it was.
    """
    from transformers import GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(gpt2_config(shape, activation=activation, end_of_text=end_of_text))
    # Batches are padded on the right with the end token, as ProtGPT2's are, and padding is never
    # scored: a causal model needs no mask. Only generation has to be told.
    model.generation_config.pad_token_id = end_of_text
    return model.eval()


def build_like(
    teacher: PreTrainedModel, layers: int, *, seed: int, layer_map: LayerMap | None = None
) -> PreTrainedModel:
    """A fresh model of the teacher's kind and width with another number of layers, no dropout.

    The same seed gives the same weights; the process-wide random state is left as it was.

    Args:
        teacher: of any architecture that `layer_list` knows.
        layers: of the new model.
        seed: of its weights.
        layer_map: says which kind of layer stands where, in models with several kinds; by
            default the first ones of the teacher's.

    Raises:
        WorkbenchError: if the architecture cannot be given another number of layers.
    """
    config = other_depth(teacher.config, layer_map or range(layers))
    # Chosen anew: a teacher that is asked for its attention maps has slow attention.
    config._attn_implementation = None
    for name, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(teacher)(config)
    if teacher.can_generate():
        own = teacher.generation_config.pad_token_id
        student.generation_config.pad_token_id = config.eos_token_id if own is None else own
    return student.eval()


def other_depth(config, layer_map: Sequence[int | None]):
    """A copy of a configuration with a layer for each entry of a map.

    What a configuration says about its layers one by one (``layer_types``: full or sliding
    attention, say) is taken from the layer that is copied.

    Raises:
        WorkbenchError: if the configuration cannot be read back with that many layers.
    """
    depth, layers = config.num_hidden_layers, len(layer_map)
    values = config.to_dict()
    own = {name: value for name, value in values.items() if "layer" in name}
    new = copy.deepcopy(config)
    new.num_hidden_layers = layers
    for name, value in own.items():
        if isinstance(value, list | tuple) and len(value) == depth:
            # A layer that starts at random is of the kind that stands at its place.
            picked = [value[i * depth // layers if k is None else k % depth]
                      for i, k in enumerate(layer_map)]  # fmt: skip
            setattr(new, name, type(value)(picked))
    try:
        new.validate()
        read_back = type(new).from_dict(new.to_dict())
    except Exception as error:
        # Each family validates in its own way and raises what it likes.
        raise WorkbenchError(
            f"a {config.model_type} model cannot be given {layers} of its {depth} layers "
            f"({' '.join(str(error).split())}); take --init random, which copies no layers"
        ) from error
    if read_back.num_hidden_layers != layers:
        raise WorkbenchError(
            f"a {config.model_type} model of {depth} layers cannot be given {layers}: its "
            f"configuration is read back with {read_back.num_hidden_layers}; take --init random"
        )
    return new


def context(model: PreTrainedModel, otherwise: int) -> int:
    """Longest input of a model, tokens; where its architecture sets no limit, ``otherwise``.

    A RoBERTa counts its positions from the number of its padding token on, and its table of
    positions has that many rows more than can be used.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return getattr(model.config, "max_position_embeddings", None) or otherwise


def parts(shape: Shape) -> dict[str, int]:
    """Parameters of a GPT-2 of that shape by part: embeddings, layers, norm and head.

    The head is tied to the table of tokens and so costs nothing.
    """
    with torch.device("meta"):
        from transformers import GPT2LMHeadModel

        model = GPT2LMHeadModel(gpt2_config(shape, activation="gelu_new"))
    place = layer_list(model)
    found = {"embeddings": 0, "layers": 0, "norm and head": 0}
    for name, parameter in model.named_parameters():
        embedding = name.endswith(("wte.weight", "wpe.weight"))
        part = "layers" if name.startswith(f"{place}.") else "norm and head"
        found["embeddings" if embedding else part] += parameter.numel()
    return found


def count_parameters(shape: Shape, *, activation: str = "gelu_new") -> int:
    """Parameters of a GPT-2 of that shape, tied weights once; nothing is allocated."""
    from transformers import GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(gpt2_config(shape, activation=activation))
    return parameters(model)


def parameters(model: nn.Module) -> int:
    """Parameters of a model, tied weights counted once."""
    return sum(p.numel() for p in model.parameters())


# ---------------------------------------------------------------------- loading


def load_causal_lm(source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """Load a causal language model and its tokenizer, from safetensors only.

    Args:
        source: name of a built-in teacher, a directory, or an id on the Hugging Face hub.

    Returns:
        Model (float32, eval mode, gradients off), tokenizer, and where they came from.

    Raises:
        WorkbenchError: if there are no weights, only pickles, another task, a tokenizer that
            does not fit, or no network for a hub id.
    """
    place = resolve_model(source)
    model, tokenizer = load_pretrained(place, CAUSAL)
    if not isinstance(model.config.eos_token_id, int):
        # Some families name several, or leave it to their tokenizer.
        model.config.eos_token_id = tokenizer.eos_token_id
    model.eval().requires_grad_(False)
    return model, tokenizer, str(place)


def check_end(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Raise WorkbenchError unless a tokenizer has a token with which sequences end."""
    if tokenizer.eos_token_id is None:
        raise WorkbenchError(
            f"the tokenizer of {source} has no end-of-sequence token; expected one such as "
            f"{END_OF_TEXT}, with which sequences begin and end"
        )


def resolve_model(source: str | Path) -> Path | str:
    """Directory of a built-in model or of one on disk; otherwise the text, as a hub id."""
    for place in (BUILT_IN_TEACHERS, BUILT_IN_STUDENTS):
        if str(source) and "/" not in str(source) and (place / str(source)).is_dir():
            return place / str(source)
    if Path(source).exists():
        return Path(source)
    text = str(source)
    if hub.split(text) is None:
        raise WorkbenchError(
            f"there is no model directory {text}; expected a directory with config.json and "
            "*.safetensors, or an id on the hub such as nferruz/ProtGPT2, or ID@REVISION"
        )
    return text


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars and warnings off the screen for a while."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_pretrained(
    place: Path | str, kind: Kind
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer from a directory or the hub, from safetensors only.

    Without network a hub id is looked for in the hub client's own cache.

    Raises:
        WorkbenchError: if there are no weights, only pickles, or a model of another kind.
    """
    from workbench.foreign import suitability

    if isinstance(place, Path):
        suitability.examine(place, kind)
        return _from_pretrained(place, kind, str(place))
    at = hub.locate(place)
    loadable = hub_place(at, place)
    suitability.examine(loadable if isinstance(loadable, Path) else place, kind)
    if isinstance(loadable, Path):
        model, tokenizer = _from_pretrained(loadable, kind, place)
        model.config._commit_hash = at.commit
        return model, tokenizer
    return _from_pretrained(at.name, kind, place, revision=hub.weights_revision(at))


def hub_place(at: hub.Located, given: str) -> Path | str:
    """What to load a located model from: its name, or without network a directory of the cache.

    Raises:
        WorkbenchError: if neither is there.
    """
    if at.reached:
        return at.name
    if at.snapshot is None:
        raise WorkbenchError(
            f"the hub's cache names commit {at.commit[:12]} of {given} but does not hold it, and "
            f"the hub cannot be reached; download it where there is a network (hf download "
            f"{at.name} --revision {at.commit})"
        )
    return at.snapshot


def architectures(place: Path | str) -> list[str]:
    """What a model directory, or a model on the hub, says it holds.

    Raises:
        WorkbenchError: if it has no readable configuration, or the hub cannot be reached.
    """
    said = stated(place) if isinstance(place, Path) else load_facts(place)[0].to_dict()
    return said.get("architectures") or []


def stated(path: Path) -> dict[str, Any]:
    """The configuration of a model directory, as it is written.

    Raises:
        WorkbenchError: if it has no readable configuration.
    """
    if not path.is_dir():
        raise WorkbenchError(
            f"{path} is a file; expected a model directory with config.json and *.safetensors"
        )
    config = path / "config.json"
    if not config.exists():
        raise WorkbenchError(f"{path} has no config.json; expected a transformers model directory")
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        values.keys()
        return values
    except (ValueError, AttributeError) as error:
        raise WorkbenchError(f"{config} is not a model configuration ({error})") from error


def wrong_kind(source: Path | str, found: str, kind: Kind) -> str:
    """The line that says that a model is of another kind."""
    return (
        f"{source} holds {found}; expected {kind.name} "
        f"({' or '.join('…' + e for e in kind.endings)})"
    )


def check_directory(path: Path, kind: Kind) -> None:
    """Raise WorkbenchError unless a directory holds weights in safetensors and a tokenizer."""
    found = architectures(path)
    if kind.endings and not any(a.endswith(kind.endings) for a in found):
        said = " ".join(found) or "a model of unnamed architecture"
        raise WorkbenchError(wrong_kind(path, said, kind))
    if not list(path.glob("*.safetensors")):
        pickles = [p.name for p in sorted(path.iterdir()) if p.suffix in (".bin", ".pt", ".pth")]
        if pickles:
            raise WorkbenchError(
                f"{path} holds its weights as a pickle ({pickles[0]}), which could run any code "
                "when loaded; convert it to safetensors (model.save_pretrained in a place you "
                "trust) and give that directory"
            )
        raise WorkbenchError(f"{path} has no weights; expected model.safetensors")
    if not any(p.name.startswith(("tokenizer", "vocab", "spiece")) for p in path.iterdir()):
        raise WorkbenchError(
            f"{path} has no tokenizer; expected tokenizer.json beside the weights, the one that "
            "the model was trained with"
        )


@contextmanager
def _one_line(place: Path | str, given: str) -> Iterator[None]:
    """Whatever transformers' loaders raise, as one line about what was given."""
    try:
        with quiet_transformers():
            yield
    except Exception as error:
        # What they raise (OSError, ValueError, SafetensorError, RuntimeError for shapes that
        # differ) is about what the user gave; the line says which of it.
        reason = first_line(error)
        if not isinstance(place, Path):
            raise WorkbenchError(
                f"cannot load the model {given} from the hub ({reason}); without network, download "
                f"it once where there is one (hf download {place}) and give the directory with "
                "--teacher DIR, or leave --teacher and --scale away to use the built-in teacher"
            ) from error
        raise WorkbenchError(f"cannot load the model {given}: {reason}") from error


def load_facts(place: Path | str) -> tuple[Any, PreTrainedTokenizerBase]:
    """Configuration and tokenizer of a model; its weights are left where they are.

    Raises:
        WorkbenchError: if they cannot be read, or the hub cannot be reached.
    """
    import transformers

    given, options = str(place), {}
    if not isinstance(place, Path):
        at = hub.locate(place)
        place = hub_place(at, place)
        options = {"revision": at.commit} if at.reached else {}
    with _one_line(place, given):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False, **options)
        return config, transformers.AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, **options
        )


def _from_pretrained(place: Path | str, kind: Kind, given: str, **options):
    import transformers

    with _one_line(place, given):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, **options
        )
        model, report = getattr(transformers, kind.auto_class).from_pretrained(
            place,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    missing = sorted(k for k in report["missing_keys"] if not k.startswith(kind.may_lack or "\0"))
    if missing:
        raise WorkbenchError(
            f"the model {given} lacks weights for {len(missing)} parameters, the first is "
            f"{missing[0]}; {kind.advice}"
        )
    return model, tokenizer


# ---------------------------------------------------------------------- looking inside


def is_classifier(model: PreTrainedModel) -> bool:
    """Whether a model sorts whole sequences into classes."""
    return type(model).__name__.endswith(CLASSIFIER.endings)


def is_masked(model: PreTrainedModel) -> bool:
    """Whether a model tells hidden words of a sentence that it sees whole."""
    return type(model).__name__.endswith(MASKED.endings)


def answers(model: PreTrainedModel) -> int:
    """How many different answers a model can give: tokens, or classes."""
    return model.config.num_labels if is_classifier(model) else model.config.vocab_size


def last_hidden(backbone: nn.Module, input_ids: Tensor, real: Tensor) -> Tensor:
    """Last hidden states of a padded batch, ``[batch, length, width]``.

    Args:
        backbone: of `split_head`.
        input_ids: ``[batch, length]``, padded on the right.
        real: ``[batch, length]``, True where a token is not padding. A causal model needs no
            mask: no real token comes after padding.
    """
    if ignores_padding(backbone):
        # No cache of keys and values: it serves generation, and here only copies them.
        return backbone(input_ids=input_ids, use_cache=False).last_hidden_state
    return backbone(input_ids=input_ids, attention_mask=real.long()).last_hidden_state


def ignores_padding(model: PreTrainedModel) -> bool:
    """Whether a model needs no mask where rows are padded on the right: no real token sees it."""
    causal = getattr(model.config, "model_type", "") in _CAUSAL_TYPES
    return causal and not is_classifier(model)


def split_head(model: PreTrainedModel) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The model without its head, and the head: from hidden states ``[rows, width]`` to logits.

    Rows can then be scored before the head is applied; `heads.rows` picks them. A classifier's row
    is the hidden state of the first token, or, where its head reads another or several, the whole
    row (`heads.Whole`). Whether the two together say what the model says is tried on a few tokens.

    Raises:
        WorkbenchError: if they do not.
    """
    backbone = model.base_model
    classifies = is_classifier(model)
    device = next(model.parameters()).device
    tokens = torch.arange(4, device=device)[None] % model.config.vocab_size
    # Quietly: that a model is read in an unusual way is known.
    with torch.no_grad(), quiet_transformers():
        whole = model(input_ids=tokens).logits
        hidden = backbone(input_ids=tokens).last_hidden_state
        for head in heads.candidates(model, first_token=classifies):
            if _says(head, hidden[:, 0] if classifies else hidden, whole, classifies):
                return backbone, head
        if classifies:
            return backbone, _whole_head(model, device)
    raise WorkbenchError(
        f"{type(model).__name__} makes its answers of more than its last hidden states; expected a "
        "head on top of them"
    )


def _says(
    head: Callable[[Tensor], Tensor], hidden: Tensor, expected: Tensor, classifies: bool
) -> bool:
    """Whether a head makes of hidden states what it should."""
    try:
        return _same(head(hidden), expected)
    except Exception:
        # A classifier that wants more than one token says so in its own way, and is asked anew.
        if classifies:
            return False
        raise


def _whole_head(model: PreTrainedModel, device: torch.device) -> heads.Whole:
    """A head that reads whole rows, if padded ones get the answers that they get alone."""
    pad = model.config.pad_token_id
    if pad is None:
        raise WorkbenchError(
            f"{type(model).__name__} does not read its answer from the first token, and its "
            "configuration names no padding (pad_token_id is null), without which rows of "
            "different lengths cannot be read together; set it and save the model again"
        )
    names = [token for token in range(5) if token != pad][:4]
    ids = torch.tensor([names, [*names[2:], pad, pad]], device=device)
    real = torch.tensor([[True] * 4, [True, True, False, False]], device=device)
    alone = torch.cat([model(input_ids=ids[:1]).logits, model(input_ids=ids[1:, :2]).logits])
    reason = "padding changes its answer, or more than its last hidden states make it"
    try:
        head = heads.Whole(model)
        # What a model holds at padding is not kept, and may not matter.
        hidden = last_hidden(model.base_model, ids, real) * real[..., None]
        if _same(head.read(hidden, ids, real), alone):
            return head
    except Exception as error:
        # A family's own code, called in a way that it was not written for, raises what it likes.
        reason = " ".join(str(error).split()) or type(error).__name__
    raise WorkbenchError(
        f"{type(model).__name__} cannot be taken apart into layers and a head ({reason}); expected "
        "a classifier that answers from the last hidden states of its tokens, as those made of "
        "BERT, ESM, RoBERTa, ModernBERT or Llama do"
    )


def _same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(
        found.float(), expected.float(), rtol=1e-3, atol=1e-3
    )


@dataclass(frozen=True)
class Origin:
    """Which weights a model has.

    Attributes:
        commit: of the hub that it was loaded from; None for a directory.
        fingerprint: of `fingerprint`.
    """

    commit: str | None
    fingerprint: str


def origin(model: PreTrainedModel) -> Origin:
    """Where a loaded model's weights come from, and what they are."""
    return Origin(getattr(model.config, "_commit_hash", None), fingerprint(model))


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_frozen(teacher: nn.Module, student: nn.Module) -> None:
    """Raise WorkbenchError unless the teacher is in eval mode, without gradients, and apart."""
    if any(module.training for module in teacher.modules()):
        raise WorkbenchError("the teacher is in training mode; expected eval mode (dropout off)")
    if any(p.requires_grad for p in teacher.parameters()):
        raise WorkbenchError(
            "the teacher's parameters ask for gradients; expected a frozen teacher"
        )
    own = {p.untyped_storage().data_ptr() for p in student.parameters()}
    for name, tensor in teacher.state_dict().items():
        if tensor.untyped_storage().data_ptr() in own:
            raise WorkbenchError(
                f"teacher and student share the storage of {name}; expected a copy"
            )


# ---------------------------------------------------------------------- the built-in tokenizer


def residue_tokenizer() -> PreTrainedTokenizerBase:
    """One token a residue, and the end-of-text token: the 21 symbols that the oracle knows.

    Any other letter becomes the end-of-text token, a break in the chain, as in ProtGPT2's
    own tokenizer. A token of its own would never occur in the world, its logit would sink
    out of sight, and at high temperature a student would be busy copying that number.
    """
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from workbench.worlds.proteins import AMINO_ACIDS

    tokens = [END_OF_TEXT, *AMINO_ACIDS]
    tokenizer = Tokenizer(WordLevel({t: i for i, t in enumerate(tokens)}, END_OF_TEXT))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
    )
