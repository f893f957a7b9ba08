from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.models.catalog import places
from pagewise.models.catalog.places import Root, hub_cache, roots


def paths(source: str, home: Path, **environment: str) -> list[Path]:
    return [root.path for root in roots(environment, home) if root.source == source]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/h/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/l", "HF_HOME": "/h"}, "/l"),
        ({"HF_HUB_CACHE": "~/c", "HUGGINGFACE_HUB_CACHE": "/l"}, "home/c"),
    ],
)
def test_the_hubs_cache_is_where_its_library_keeps_it(environment: dict[str, str], cache: str, tmp_path: Path) -> None:
    assert hub_cache(environment, tmp_path / "home") == tmp_path / cache


def test_every_tool_is_looked_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert paths("llama.cpp", home, LLAMA_CACHE="/l") == [Path("/l"), home / ".cache/llama.cpp"]
    assert home / ".ollama/models" in paths("Ollama", home)
    assert Path("/usr/share/ollama/.ollama/models") in paths("Ollama", home)
    assert paths("Ollama", home, OLLAMA_MODELS="/o")[0] == Path("/o")
    assert {home / ".lmstudio/models", home / ".cache/lm-studio/models"} <= set(paths("LM Studio", home))
    assert home / ".local/share/Jan/data/llamacpp/models" in paths("Jan", home)
    assert home / ".local/share/nomic.ai/GPT4All" in paths("GPT4All", home)
    assert home / "text-generation-webui/models" in paths("text-generation-webui", home)
    assert Root("folder", home / "Downloads", "flat") in roots({}, home)


def test_folders_of_ones_own_come_first_and_each_path_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = places.folders_file()
    file.parent.mkdir(parents=True)
    file.write_text("# mine\n~/weights\n\n/srv/models/../models\n")
    found = [root.path for root in roots({places.VARIABLE: f"/a:/srv/models:{home}/b"}, home)]
    assert found[:4] == [Path("/a"), Path("/srv/models"), home / "b", home / "weights"]
    assert found.count(Path("/srv/models")) == 1


def test_lm_studio_says_where_its_models_are(tmp_path: Path) -> None:
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path}/studio\n")
    (tmp_path / "studio").mkdir()
    (tmp_path / "studio/settings.json").write_text('{"downloadsFolder": "/big/models"}')
    assert paths("LM Studio", tmp_path)[:2] == [Path("/big/models"), tmp_path / "studio/models"]
    (tmp_path / "studio/settings.json").write_text("[" * 100_000)
    assert paths("LM Studio", tmp_path)[0] == tmp_path / "studio/models"
