"""GGUF files by their path: what completes what is typed, and why a file cannot be the model."""

from __future__ import annotations

import os
from pathlib import Path

MAGIC = b"GGUF"
_SHOWN = 200
"""Entries of a folder that are offered; typing narrows them."""


def problem(path: Path) -> str | None:
    """Why this cannot be opened as a model, with what to do; None if it looks right. The engine has the last word."""
    try:
        if path.is_dir():
            return _folder_problem(path)
        if not path.exists():
            return "There is no such file. Tab completes what is there."
        if path.stat().st_size == 0:
            return "The file is empty: its download did not finish, or failed. Get it again."
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"It cannot be read: {error.strerror or error}."
    if magic == MAGIC:
        return None
    if path.suffix == ".safetensors":
        return (
            "This is a safetensors file, as PyTorch programs use; llama.cpp needs GGUF. Look for the same model with "
            "GGUF in its name, or convert its folder with llama.cpp's convert_hf_to_gguf.py."
        )
    return "This is not a GGUF file: it does not begin with the letters GGUF."


def _folder_problem(path: Path) -> str | None:
    names = [entry.name for entry in path.iterdir()]
    if any(name.endswith(".safetensors") for name in names):
        return (
            "This is a Hugging Face model folder; llama.cpp needs one GGUF file. Look for the same model with GGUF in "
            "its name, or convert the folder with llama.cpp's convert_hf_to_gguf.py."
        )
    if any(name.endswith(".gguf") for name in names):
        return "This is a folder: choose one of its GGUF files below (of a split model, the first part)."
    return "This is a folder without a GGUF file."


def offers(typed: str) -> list[Path]:
    """Folders and GGUF files that complete what is typed, folders first."""
    path = Path(typed).expanduser()
    folder, beginning = (path, "") if typed.endswith("/") or not typed else (path.parent, path.name)
    try:
        entries = [
            entry
            for entry in os.scandir(folder)
            if entry.name.startswith(beginning)
            and (beginning.startswith(".") or not entry.name.startswith("."))
            and (entry.is_dir() or entry.name.endswith(".gguf"))
        ]
    except OSError:
        return []
    entries.sort(key=lambda entry: (not entry.is_dir(), entry.name))
    return [Path(entry.path) for entry in entries[:_SHOWN]]


def is_path(typed: str) -> bool:
    """Whether what is typed is meant as a path, and not as words."""
    return typed.startswith(("/", "~", "./", "../"))
