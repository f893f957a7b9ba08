"""Where the tools people use keep their models, in the order in which a model that lies in several is named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

VARIABLE = "PAGEWISE_MODELS"
"""Folders of the person's own, separated as in PATH."""
_MAX_SETTINGS = 1 << 20
Layout = Literal["tree", "flat", "ollama"]
"""``tree``: GGUF files at any depth, Hugging Face's cache too; ``flat``: in the folder alone; ``ollama``: its own."""


class Root(NamedTuple):
    """One folder to look through, and how it is laid out. ``source`` is the name of what keeps it."""

    source: str
    path: Path
    layout: Layout = "tree"


def own_folder() -> Path:
    """Where pagewise itself puts models that it makes."""
    return platformdirs.user_data_path("pagewise") / "models"


def folders_file() -> Path:
    """A text file in which a person can name folders: one on a line, ``#`` begins a comment."""
    return platformdirs.user_config_path("pagewise") / "models.txt"


def roots(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> tuple[Root, ...]:
    """All folders that may hold models, whether or not they exist; each path once."""
    seen: set[str] = set()
    kept = []
    for root in _all(environment, home or Path.home()):
        spelled = os.path.normpath(root.path)
        if spelled not in seen:
            seen.add(spelled)
            kept.append(root._replace(path=Path(spelled)))
    return tuple(kept)


def hub_cache(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> Path:
    """The cache of huggingface_hub, found as that library finds it."""
    home = home or Path.home()
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return _path(environment[name], home)
    if environment.get("HF_HOME"):
        return _path(environment["HF_HOME"], home) / "hub"
    return _cache(environment, home) / "huggingface" / "hub"


def _all(environment: Mapping[str, str], home: Path) -> Iterator[Root]:
    for folder in environment.get(VARIABLE, "").split(os.pathsep):
        if folder:
            yield Root("folder", _path(folder, home))
    for folder in _lines(folders_file()):
        yield Root("folder", _path(folder, home))
    yield Root("pagewise", own_folder())
    yield Root("Hugging Face", hub_cache(environment, home))
    yield from _llama_cpp(environment, home)
    if environment.get("OLLAMA_MODELS"):
        yield Root("Ollama", _path(environment["OLLAMA_MODELS"], home), "ollama")
    yield Root("Ollama", home / ".ollama" / "models", "ollama")
    yield Root("Ollama", Path("/usr/share/ollama/.ollama/models"), "ollama")
    yield from _lm_studio(home)
    for data in _data_folders(environment, home):
        for folder in ("llamacpp/models", "models"):
            yield Root("Jan", data / "Jan" / "data" / folder)
        yield Root("GPT4All", data / "nomic.ai" / "GPT4All")
    yield Root("Jan", home / "jan" / "models")
    yield Root("GPT4All", _cache(environment, home) / "gpt4all")
    for folder in ("user_data/models", "models"):
        yield Root("text-generation-webui", home / "text-generation-webui" / folder)
    yield Root("folder", home / "models")
    yield Root("folder", home / "Downloads", "flat")


def _llama_cpp(environment: Mapping[str, str], home: Path) -> Iterator[Root]:
    caches = [_path(environment["LLAMA_CACHE"], home)] if environment.get("LLAMA_CACHE") else []
    caches.append(_cache(environment, home) / "llama.cpp")
    if sys.platform == "darwin":
        caches.append(home / "Library" / "Caches" / "llama.cpp")
    for cache in caches:
        yield Root("llama.cpp", cache)


def _lm_studio(home: Path) -> Iterator[Root]:
    homes = [_path(line, home) for line in _lines(home / ".lmstudio-home-pointer")[:1]]
    homes += [home / ".lmstudio", home / ".cache" / "lm-studio"]
    for folder in homes:
        chosen = _settings(folder / "settings.json").get("downloadsFolder")
        if isinstance(chosen, str) and chosen:
            yield Root("LM Studio", _path(chosen, home))
        yield Root("LM Studio", folder / "models")


def _data_folders(environment: Mapping[str, str], home: Path) -> list[Path]:
    if sys.platform == "darwin":
        return [home / "Library" / "Application Support"]
    data = environment.get("XDG_DATA_HOME")
    return [_path(data, home) if data else home / ".local" / "share", home / ".config"]


def _cache(environment: Mapping[str, str], home: Path) -> Path:
    named = environment.get("XDG_CACHE_HOME")
    return _path(named, home) if named else home / ".cache"


def _path(text: str, home: Path) -> Path:
    """``text`` with ``~`` and variables taken for what they mean; relative ones start at the present folder."""
    text = os.path.expandvars(text)
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    return Path(os.path.abspath(text))  # noqa: PTH100 - Path.absolute() keeps ".."


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SETTINGS).decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#") and "\0" not in line]


def _settings(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            read = json.loads(file.read(_MAX_SETTINGS))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
