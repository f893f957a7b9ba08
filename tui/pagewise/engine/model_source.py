"""The file of a profile that names one: as it is, or the one of the quant level that the profile asks for."""

from __future__ import annotations

from pathlib import Path

from pagewise.engine.failures import Failed, from_gguf
from pagewise.engine.llamacpp.model import ModelFile, open_model_file
from pagewise.models.gguf import GgufError
from pagewise.models.level_files import LevelMissing, level_file
from pagewise.models.level_names import LevelError
from pagewise.settings import Profile


def own_file(profile: Profile) -> ModelFile:
    """Its headers. Raises Failed, also where the level has not been made: a load makes no file of gigabytes unasked."""
    path = Path(profile.model).expanduser()
    if profile.quant is None:
        return open_model_file(path)
    try:
        return open_model_file(level_file(path, profile.quant))
    except GgufError as error:
        raise from_gguf(error) from error
    except (LevelMissing, LevelError) as error:
        raise Failed(error.failure.what, error.failure.why, error.failure.next) from error
