"""What of a repository on the hub is needed, and its way into the hub's cache.

What this file is: the choice among a repository's files by their names and its index
(`weights_among`, which serves folders too), their download, and weight files that hold
their headers alone, for a plan. What it is not: in use anywhere but for a hub id that
the user named (load.py). Nothing fetched is executed, and only files at the top of a
repository are asked for.
"""

import glob
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import UserError

MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer.model", "README.md")
SOURCE_FILES = (
    *MODEL_FILES, "tokenizer_config.json", "preprocessor_config.json",
    "processor_config.json", "open_clip_config.json",
)  # fmt: skip
SAFETENSORS = (".safetensors",)
TORCH = (".bin", ".pth", ".pt")
# A trainer's own files, which lie beside the weights in many repositories.
_OTHERS = re.compile(
    r"\.|(training_args|optimizer|scheduler|scaler|rng_state)|adapter_model\."
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[a-z]+)")


def fetch(repo: str, revision: str | None, wanted: Collection[str]) -> Path:
    """The folder in the hub's cache with what there is of `wanted`, and the weights.

    Without a network, or with HF_HUB_OFFLINE, it is what the cache has. Raises
    UserError where the repository is not to be had, or its weights are not in it.
    """
    with one_line(repo, revision):
        held, _ = _listing(repo, revision)
        if held is None:
            return _cached(repo, revision, wanted)
        weights = _weights(repo, held, lambda name: _download(repo, revision, [name]))
        return _download(repo, revision, [n for n in held if n in wanted] + weights)


def fetch_headers(
    repo: str, revision: str | None, wanted: Collection[str], place: Path
) -> Path:
    """The same files in the new folder `place`, whose weights have headers alone.

    They are as long as the real ones, and where the numbers would be there are holes,
    which take no room. PyTorch files, which have no such header, and what the cache
    alone can give are fetched or found whole.
    """
    with one_line(repo, revision):
        held, commit = _listing(repo, revision)
        if held is None or not any(n.endswith(SAFETENSORS) for n in held):
            return fetch(repo, revision, wanted)
        weights = _weights(repo, held, lambda name: _download(repo, revision, [name]))
        small = [n for n in held if n in wanted or n.endswith(".index.json")]
        folder = _download(repo, revision, small)
        place.mkdir(parents=True)
        for name in small:
            shutil.copyfile(folder / name, place / name)
        for name in weights:
            if not name.endswith(".index.json"):
                _hollow(place / name, repo, name, commit)
        return place


def _hollow(path: Path, repo: str, name: str, commit: str | None) -> None:
    """Write the header of a file of the hub, and no data."""
    from huggingface_hub import HfApi

    about = HfApi().parse_safetensors_file_metadata(repo, name, revision=commit)
    header: dict[str, Any] = {
        tensor: {
            "dtype": info.dtype, "shape": list(info.shape),
            "data_offsets": list(info.data_offsets),
        } for tensor, info in about.tensors.items()
    }  # fmt: skip
    text = json.dumps(header).encode()
    end = max((info.data_offsets[1] for info in about.tensors.values()), default=0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


# --- which files ----------------------------------------------------------------------


def weights_among(place: object, held: Sequence[str], one: str, some: str) -> list[str]:
    """The weight files among the names that `place` holds, or their index alone.

    Safetensors before PyTorch's own, and of each what transformers calls it. Raises
    WeightsError where it is not clear which `one` is meant, or to have `some` at all:
    these are the remedies.
    """
    names = [n for n in held if not _OTHERS.match(n)]
    for kinds, stem in ((SAFETENSORS, "model"), (TORCH, "pytorch_model")):
        files = [n for n in names if n.endswith(kinds)]
        indexes = [n for n in names if n.endswith(f"{kinds[0]}.index.json")]
        usual = f"{stem}{kinds[0]}"
        if f"{usual}.index.json" in indexes:
            return [f"{usual}.index.json"]
        if usual in files:
            return [usual]
        if len(indexes) == 1:
            return indexes
        if len(files) == 1 or files and _are_shards(files):
            return files
        if files:
            raise WeightsError(
                f"{place} has {len(files)} weight files and no index "
                f"({', '.join(files[:5])}{', …' * (len(files) > 5)}); {one}"
            )
    raise WeightsError(f"{place} has no .safetensors, .bin, .pt or .pth file; {some}")


def _are_shards(names: list[str]) -> bool:
    """Whether these are all the parts, by their numbers, of one checkpoint."""
    parts = [m.groups() for n in names if (m := _SHARD.fullmatch(n))]
    numbers = [int(number) for _, number, _, _ in parts]
    same = {(stem, count, suffix) for stem, _, count, suffix in parts}
    return (
        len(parts) == len(names)
        and len(same) == 1
        and sorted(numbers) == list(range(1, int(parts[0][2]) + 1))
    )


def _weights(repo: str, held: list[str], fetched: Callable[[str], Path]) -> list[str]:
    """The weight files among those `held`, and their index, which `fetched` gives."""
    # Mistral's second copy of its weights is not worth a download.
    chosen = weights_among(
        repo, [n for n in held if not n.startswith("consolidated")],
        "fetch the one that is meant into a folder, with its JSON files, and give that "
        "folder", "give a repository with a model's weights at its top",
    )  # fmt: skip
    index = chosen[0]
    if not index.endswith(".index.json"):
        return chosen
    return [index, *_of_index(repo, fetched(index) / index, held)]


def _of_index(repo: str, index: Path, held: list[str]) -> list[str]:
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
        files = sorted({str(name) for name in named})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{repo}: {index.name} has no weight_map") from None
    if lost := [name for name in files if name not in held]:
        raise UserError(
            f"{repo}: {index.name} names {lost[0][:100]!r}, which is no file at the "
            "top of the repository"
        )
    return files


# --- the hub --------------------------------------------------------------------------


def _listing(repo: str, revision: str | None) -> tuple[list[str] | None, str | None]:
    """Names at the top of a repository, and its commit; None where no hub answers."""
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if is_offline_mode():
        return None, None
    try:
        info = HfApi().model_info(repo, revision=revision)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or _is_httpx(error):
            return None, None
        raise
    names = [s.rfilename for s in info.siblings or ()]
    return sorted(n for n in names if "/" not in n), info.sha


def _is_httpx(error: Exception) -> bool:
    """Whether it is of the hub's own client, whose name depends on the version."""
    return type(error).__module__.startswith("httpx")


def _download(repo: str, revision: str | None, files: list[str]) -> Path:
    """The snapshot's folder with these files; bars of progress go to stderr."""
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in files]
    return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))


def _cached(repo: str, revision: str | None, wanted: Collection[str]) -> Path:
    """The snapshot in the cache, if all that is needed of it is there."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    why = "HF_HUB_OFFLINE is set" if is_offline_mode() else "the hub cannot be reached"
    at = f" at revision {revision}" if revision else ""
    try:
        found = snapshot_download(
            repo, revision=revision, allow_patterns=list(wanted), local_files_only=True
        )
        folder = Path(found)
        held = sorted(path.name for path in folder.iterdir())
        _weights(repo, held, lambda _: folder)
    except (LocalEntryNotFoundError, UserError):
        raise UserError(
            f"{repo} is no folder here, {why}, and the cache has not all of it{at}; "
            "fetch it with a network, or give a folder"
        ) from None
    return folder


@contextmanager
def one_line(repo: str, revision: str | None) -> Iterator[None]:
    """Whatever the hub's library raises becomes a UserError of one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        SafetensorsParsingError,
    )

    try:
        yield
    except GatedRepoError:
        why = "its terms must be accepted on its page first, then run hf auth login"
    except RepositoryNotFoundError:
        why = "there is none of that name, or it is private: check it, or run hf auth "
        why += "login"
    except RevisionNotFoundError:
        why = f"it has no revision {revision!r}"
    except (HfHubHTTPError, HFValidationError, SafetensorsParsingError, OSError) as e:
        why = _reason(e)
    except Exception as e:
        if not _is_httpx(e):
            raise
        why = _reason(e)
    else:
        return
    raise UserError(
        f"{repo} is no folder here and could not be fetched from the hub: {why}"
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
