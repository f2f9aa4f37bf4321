"""A student goes to the Hugging Face hub, when and only when somebody says so.

Nothing here is called by a run, a sweep or an export: only `workbench push` and whoever calls
`push`. The directory ``student/`` of a finished run leaves the machine, nothing else of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.errors import UsageError, WorkbenchError
from workbench.run_directory import RunDirectory, load_config

#: Endings of what a transformers directory is made of. Weights as a pickle are not.
ENDINGS = (".json", ".jinja", ".md", ".model", ".safetensors", ".txt")


def push(run: str | Path, repository: str, private: bool = True) -> str:
    """Upload the student of a finished run with its model card; the address of its page.

    The repository is made if it is not there; one that is there keeps its visibility. The hub's own
    client finds the token (``HF_TOKEN``, or what ``hf auth login`` kept).

    Args:
        run: directory of a finished run.
        repository: as OWNER/NAME.
        private: whether a repository that is made now is seen by its owner only.

    Raises:
        UsageError: if the repository is not named as OWNER/NAME.
        WorkbenchError: if the run is not finished, there is no token or no network, or the hub
            refuses.
    """
    files = leaving(run)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(_name_error(repository)) from error
    if repository.count("/") != 1:
        raise UsageError(_name_error(repository))
    if get_token() is None:
        raise WorkbenchError(
            "there is no token for the hub; make one at https://huggingface.co/settings/tokens "
            "and give it with `hf auth login` or in HF_TOKEN"
        )
    api: Any = HfApi()
    try:
        page = api.create_repo(repository, private=private, repo_type="model", exist_ok=True)
        api.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=f.name, path_or_fileobj=str(f)) for f in files],
            commit_message="Student and model card, from the distillation workbench",
            repo_type="model",
        )
    except OfflineModeIsEnabled as error:
        raise WorkbenchError(
            f"nothing was uploaded to {repository}: HF_HUB_OFFLINE is set; unset it where there "
            "is a network"
        ) from error
    except HfHubHTTPError as error:
        raise WorkbenchError(
            f"the hub refused {repository}: {_first_line(error)}; does the token allow writing "
            "there?"
        ) from error
    except OSError as error:
        raise WorkbenchError(_unreachable(repository, error)) from error
    except Exception as error:
        # The client's transport has errors of its own for each way in which a network can fail.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise WorkbenchError(_unreachable(repository, error)) from error
    return str(page)


def leaving(run: str | Path) -> list[Path]:
    """The files of a finished run that `push` uploads, by name.

    Raises:
        WorkbenchError: if there is no finished run, or its student lacks weights or card.
    """
    directory = RunDirectory(Path(run))
    load_config(directory)
    student = directory.student
    found = sorted(student.iterdir()) if student.is_dir() else []
    # A link could lead to any file of the machine.
    files = [f for f in found if f.suffix in ENDINGS and f.is_file() and not f.is_symlink()]
    names = {f.name for f in files}
    complete = {"config.json", "README.md"} <= names
    if not (
        directory.results.exists() and complete and any(n.endswith(".safetensors") for n in names)
    ):
        raise WorkbenchError(
            f"{directory.path} has no finished student with a model card to publish; finish it "
            f"with `workbench resume {directory.path}`"
        )
    return files


def _name_error(repository: str) -> str:
    return f"the repository is {repository!r}; expected OWNER/NAME, such as somebody/my-student"


def _unreachable(repository: str, error: Exception) -> str:
    return (
        f"nothing was uploaded to {repository}: the hub cannot be reached ({_first_line(error)}); "
        "try again where there is a network"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
