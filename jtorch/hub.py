"""`torch.hub`: models from a repository with a `hubconf.py`, and files from the web, kept in a folder of the user's.

A hubconf.py of somebody else's is code that runs here. It usually says `import torch`: under `python -m jtorch` that is
jtorch; otherwise call `jtorch.stand_in.install()` first.
"""
from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from jtorch.serialization import load as _load

__all__ = ["download_url_to_file", "get_dir", "help", "list", "load", "load_state_dict_from_url", "set_dir"]

ARCHIVE = "https://github.com/{}/{}/zipball/{}"
HASH = re.compile(r"-([a-f0-9]*)\.")
_CHUNK = 1 << 17
_directory: str | None = None


def get_dir() -> str:
    """The folder for repositories and checkpoints: `set_dir`'s, or `$TORCH_HOME/hub`, or in the user's cache."""
    if _directory is not None:
        return _directory
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return os.path.join(os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    global _directory
    _directory = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None,
                         progress: bool = True) -> None:
    """Download to a file, which appears when it is complete. With `hash_prefix`, RuntimeError if the SHA-256 of the
    contents does not begin with it."""
    target = Path(os.path.expanduser(dst))
    digest = hashlib.sha256()
    request = urllib.request.Request(url, headers={"User-Agent": "torch.hub"})
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".partial", delete=False) as file:
        try:
            with urllib.request.urlopen(request) as source:
                total, done = int(source.headers.get("Content-Length") or 0), 0
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    if progress and total and sys.stderr.isatty():
                        print(f"\r{done / total:4.0%} of {total / 2**20:.1f} MiB", end="", file=sys.stderr)
            if progress and sys.stderr.isatty():
                print(file=sys.stderr)
            if hash_prefix is not None and not digest.hexdigest().startswith(hash_prefix):
                raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}")')
            file.close()
            shutil.move(file.name, target)
        finally:
            Path(file.name).unlink(missing_ok=True)


def load_state_dict_from_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True,
                             check_hash: bool = False, file_name: str | None = None, weights_only: bool = False,
                             ) -> dict[str, Any]:
    """`load` of a file that is downloaded once, into `model_dir` (by default `get_dir()/checkpoints`).

    With `check_hash`, the eight or more hexadecimal digits before the ending of the file's name are the beginning of
    its SHA-256, and are checked. Other than PyTorch's, the file is always read by the restricted unpickler.
    """
    folder = os.path.join(get_dir(), "checkpoints") if model_dir is None else model_dir
    os.makedirs(folder, exist_ok=True)
    name = file_name or os.path.basename(urllib.parse.urlparse(url).path)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        found = HASH.search(name) if check_hash else None
        download_url_to_file(url, path, found.group(1) if found else None, progress)
    return _load(path, map_location=map_location)


# --- repositories ----------------------------------------------------------------------------------------------------


def _parsed(github: str) -> tuple[str, str, str]:
    place, _, ref = github.partition(":")
    owner, slash, name = place.partition("/")
    if not slash or not owner or not name:
        raise ValueError(f"a repository is written 'owner/name' or 'owner/name:branch', not '{github}'")
    return owner, name, ref or "main"


def _trusted(owner: str, name: str, trust_repo: bool | str | None) -> None:
    """Ask, or believe, that the code of a repository may run here; the answer is kept."""
    kept = Path(get_dir()) / "trusted_list"
    key = f"{owner}_{name}"
    if kept.exists() and key in kept.read_text().split():
        return
    if trust_repo is False or trust_repo is None or trust_repo == "check":
        question = (f"The repository {owner}/{name} does not belong to the list of trusted repositories and as such "
                    "cannot be downloaded. Do you trust this repository and wish to add it to the trusted list of "
                    "repositories (y/N)? ")
        try:
            answer = input(question)
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise Exception("Untrusted repository.")
    with kept.open("a") as file:
        file.write(key + "\n")


def _repository(github: str, force_reload: bool, verbose: bool, trust_repo: bool | str | None) -> str:
    """The folder of a repository, downloaded if it is not there."""
    owner, name, ref = _parsed(github)
    os.makedirs(get_dir(), exist_ok=True)
    _trusted(owner, name, trust_repo)
    place = os.path.join(get_dir(), "_".join([owner, name, ref.replace("/", "_")]))
    if os.path.isdir(place) and not force_reload:
        if verbose:
            print(f"Using cache found in {place}", file=sys.stderr)
        return place
    with tempfile.TemporaryDirectory(dir=get_dir()) as scratch:
        archive = os.path.join(scratch, "repository.zip")
        try:
            download_url_to_file(ARCHIVE.format(owner, name, ref), archive, progress=verbose)
        except urllib.error.HTTPError as error:
            raise ValueError(f"Cannot find {ref} in https://github.com/{owner}/{name}: {error}") from None
        with zipfile.ZipFile(archive) as file:
            file.extractall(scratch)  # which keeps names with .. or / inside of the folder
        inside = [p for p in Path(scratch).iterdir() if p.is_dir()]
        if len(inside) != 1:
            raise RuntimeError(f"the archive of {github} does not hold one folder")
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(str(inside[0]), place)
    return place


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _hubconf(folder: str) -> ModuleType:
    path = os.path.join(folder, "hubconf.py")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{folder} has no hubconf.py")
    spec = importlib.util.spec_from_file_location("hubconf", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importable(folder):
        spec.loader.exec_module(module)
    missing = [p for p in getattr(module, "dependencies", []) if importlib.util.find_spec(p) is None]
    if missing:
        raise RuntimeError(f"Missing dependencies: {', '.join(missing)}")
    return module


def _entry(module: ModuleType, name: str) -> Callable[..., Any]:
    if not isinstance(name, str):
        raise ValueError("Invalid input: model should be a str of function name")
    found = getattr(module, name, None)
    if not callable(found):
        raise RuntimeError(f"Cannot find callable {name} in hubconf")
    return found


def list(github: str, force_reload: bool = False, skip_validation: bool = False, trust_repo: bool | str | None = None,
         verbose: bool = True) -> Any:
    """The names that a repository offers."""
    module = _hubconf(_repository(github, force_reload, verbose, trust_repo))
    return [n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")]


def help(github: str, model: str, force_reload: bool = False, skip_validation: bool = False,
         trust_repo: bool | str | None = None) -> str | None:
    """The docstring of one of them."""
    return _entry(_hubconf(_repository(github, force_reload, True, trust_repo)), model).__doc__


def load(repo_or_dir: str, model: str, *args: Any, source: str = "github", trust_repo: bool | str | None = None,
         force_reload: bool = False, verbose: bool = True, skip_validation: bool = False, **kwargs: Any) -> Any:
    """What `model(*args, **kwargs)` of a repository's hubconf.py makes. With source='local', `repo_or_dir` is a folder.

    A repository that was never used is asked about on the terminal, unless `trust_repo=True`.
    Raises: RuntimeError for an unknown name or missing packages; ValueError for an unknown source or repository.
    """
    if source not in ("github", "local"):
        raise ValueError(f'Unknown source: "{source}". Allowed values: "github" | "local".')
    folder = repo_or_dir if source == "local" else _repository(repo_or_dir, force_reload, verbose, trust_repo)
    with _importable(folder):
        return _entry(_hubconf(folder), model)(*args, **kwargs)

