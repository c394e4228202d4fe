"""`--upload-repo`: a finished model folder goes to the hub, if its licence lets it.

What this file is: what must hold before anything is converted, the front matter that
the hub reads in a card, and the upload. What it is not: the model card's text.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from mm15_mlx.checkpoint import at_home
from mm15_mlx.config import UserError
from mm15_mlx.convert.recipes import Licence

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAY = ("permissive", "non-commercial")  # what lets people pass weights on
# Those of the hub's own list of licences that `Licence.name` can be.
_KNOWN = (
    "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0",
    "unlicense", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
)  # fmt: skip


def check_repo(repo: str) -> None:
    """That `repo` is a name and that the hub knows who asks; nothing is sent."""
    from huggingface_hub import get_token

    if not _REPO.fullmatch(repo):
        raise UserError(f"--upload-repo is {repo!r}; it must be owner/name")
    if not get_token():
        raise UserError(
            f"--upload-repo {repo} needs a token of the hub and there is none; run "
            "hf auth login, or leave the flag out"
        )


def check_licence(repo: str, kind: str, named: str) -> None:
    """Raises UserError where the weights are not ours to pass on."""
    if kind not in _MAY:
        raise UserError(
            f"the licence of these weights is {kind} ({named or 'none is named'}), "
            f"which lets nobody pass them on, so they are not uploaded to {repo}; "
            "leave out --upload-repo"
        )


def public(source: str) -> str:
    """A source's name as it may be published: of a folder its last part alone."""
    path = at_home(source)
    return path.resolve().name if path.exists() else source


def front_matter(licences: Iterable[Licence], sources: Iterable[str]) -> str:
    """The head of a card, as the hub reads it."""
    names = list(dict.fromkeys(licence.name for licence in licences))
    lines = ["library_name: mlx", "pipeline_tag: image-text-to-text"]
    if len(names) == 1 and names[0] in _KNOWN:
        lines.append(f"license: {names[0]}")
    else:
        words = "-and-".join(re.sub(r"[^a-z0-9.]+", "-", n) or "unknown" for n in names)
        lines += ["license: other", f"license_name: {words}"]
    bases = [s for s in sources if _REPO.fullmatch(s) and not Path(s).exists()]
    if bases:
        lines += ["base_model:", *(f"- {s}" for s in bases)]
    lines.append("tags: [mlx, mm15]")
    return "---\n" + "\n".join(lines) + "\n---\n"


def upload(folder: Path, repo: str) -> str:
    """Creates `repo` where it is not there, sends the folder, and returns its
    address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        made = api.create_repo(repo_id=repo, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Upload with mm15-mlx"
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{folder} is whole, but could not be uploaded to {repo}: {reason}; try "
            f"again with hf upload {repo} {folder}"
        ) from error
    return str(made)
