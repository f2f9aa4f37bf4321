"""BibTeX of what a recipe was read in, for model cards."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Where knowledge distillation with a temperature comes from.
HINTON = "arXiv 1503.02531"
_PAPERS = {
    HINTON: """@article{hinton2015distilling,
  title  = {Distilling the Knowledge in a Neural Network},
  author = {Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff},
  journal = {arXiv preprint arXiv:1503.02531},
  year   = {2015}
}""",
    "huggingface.co/nferruz/ProtGPT2": """@article{ferruz2022protgpt2,
  title   = {{ProtGPT2} is a deep unsupervised language model for protein design},
  author  = {Ferruz, Noelia and Schmidt, Steffen and H{\\"o}cker, Birte},
  journal = {Nature Communications},
  volume  = {13},
  pages   = {4348},
  year    = {2022}
}""",
    "arXiv 2209.03182": """@article{rohanian2023effectiveness,
  title   = {On the effectiveness of compact biomedical transformers},
  author  = {Rohanian, Omid and Nouriborji, Mohammadmahdi and Kouchaki, Samaneh and
             Clifton, David A.},
  journal = {Bioinformatics},
  volume  = {39},
  number  = {3},
  pages   = {btad103},
  year    = {2023}
}""",
    "arXiv 1910.01108": """@article{sanh2019distilbert,
  title   = {{DistilBERT}, a distilled version of {BERT}: smaller, faster, cheaper and lighter},
  author  = {Sanh, Victor and Debut, Lysandre and Chaumond, Julien and Wolf, Thomas},
  journal = {arXiv preprint arXiv:1910.01108},
  year    = {2019}
}""",
    "arXiv 1909.10351": """@article{jiao2019tinybert,
  title   = {{TinyBERT}: Distilling {BERT} for Natural Language Understanding},
  author  = {Jiao, Xiaoqi and Yin, Yichun and Shang, Lifeng and Jiang, Xin and Chen, Xiao and
             Li, Linlin and Wang, Fang and Liu, Qun},
  journal = {arXiv preprint arXiv:1909.10351},
  year    = {2019}
}""",
}
_PLACE = re.compile(r"(?P<address>(?:huggingface\.co|github\.com)/(?P<name>[\w.\-]+/[\w.\-]+))")


def bibtex(sources: Sequence[str]) -> str:
    """Entries for Hinton et al. 2015 and for each source, in their order.

    Args:
        sources: of a `Recipe`: an arXiv number or a model page whose paper is known here, or a
            repository or model page, as in "huggingface.co/OWNER/NAME" with more words after it
            or not.

    Raises:
        KeyError: if a source is neither; a recipe with a new paper brings its entry here.
    """
    return "\n\n".join(_entry(source) for source in dict.fromkeys((HINTON, *sources)))


def _entry(source: str) -> str:
    place = _PLACE.match(source)
    if source in _PAPERS or place is None:
        return _PAPERS[source]
    key = re.sub(r"\W+", "-", place["name"]).strip("-").lower()
    more = source[place.end() :].strip(" ,")
    note = f",\n  note = {{{more}}}" if more else ""
    title = place["name"].replace("_", r"\_")
    return (
        f"@misc{{{key},\n  title = {{{title}}},\n"
        f"  howpublished = {{\\url{{https://{place['address']}}}}}{note}\n}}"
    )
