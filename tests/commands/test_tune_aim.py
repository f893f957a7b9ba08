"""What the options of ``pagewise tune`` come to, and which of them contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.history.test_depths import replied
from tests.synthetic import make_model

from pagewise.commands.tune_aim import Options, TuneError, wanted, wishes
from pagewise.jobs.tune import TUNED, QuantWish
from pagewise.settings import Profile

NONE = Path("/nowhere/history.db")


@pytest.fixture
def mine() -> Profile:
    return Profile(name="mine", model=str(make_model()), n_ctx=8192)


def refused(profile: Profile, **options: object) -> str:
    with pytest.raises(TuneError) as caught:
        wanted(profile, Options(**options), NONE)  # type: ignore[arg-type]
    return caught.value.failure.what


def test_each_goal_measures_what_it_is_about(mine: Profile) -> None:
    chat, long, batch = (wanted(mine, Options(goal=goal), NONE).aim for goal in ("chat", "long-prompts", "batch"))
    assert (chat.n_prompt, chat.n_output, chat.depth) == (256, 64, 1024)
    assert (long.n_prompt, long.depth) == (2048, 0)
    assert (batch.n_prompt, batch.n_output, batch.depth) == (512, 128, 0)
    assert "empty context" in batch.depth_from


def test_the_depth_is_that_of_the_conversations_and_it_is_said(mine: Profile, tmp_path: Path) -> None:
    replied(tmp_path / "history.db", "synthetic llama", 300, 500, 400)
    aim = wanted(mine, Options(), tmp_path / "history.db").aim
    assert aim.depth == 400 and "median of the last 3 replies" in aim.depth_from
    given = wanted(mine, Options(depth=7), tmp_path / "history.db").aim
    assert given.depth == 7 and given.depth_from == ""


def test_without_a_conversation_that_is_said(mine: Profile) -> None:
    assert "no reply of this model yet" in wanted(mine, Options(), NONE).aim.depth_from


def test_a_short_context_shortens_what_nobody_has_asked_for(mine: Profile) -> None:
    aim = wanted(mine, Options(ctx=512), NONE).aim
    assert aim.depth + aim.n_prompt + aim.n_output < 512
    assert "context of 512 holds" in aim.depth_from
    aim = wanted(mine, Options(goal="long-prompts", ctx=512), NONE).aim
    assert aim.n_prompt + aim.n_output < 512


def test_the_context_that_must_fit_is_the_profiles(mine: Profile) -> None:
    assert wanted(mine, Options(ctx=4096), NONE).profile.n_ctx == 4096


def test_memory_to_leave_free_is_said_for_all_or_for_one(mine: Profile) -> None:
    aim = wanted(mine, Options(leave=("2GiB", "CUDA0=512MiB")), NONE).aim
    assert aim.leave_free("RAM") == 2 << 30 and aim.leave_free("CUDA0") == 512 << 20
    assert "is not a size" in refused(mine, leave=("much",))
    assert "is not a size" in refused(mine, leave=("CUDA0=",))


@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"goal": "long-prompts", "ttft_s": 1.0}, ("--for long-prompts", "--ttft")),
        ({"ctx": 512, "depth": 4000}, ("--ctx 512", "--depth 4,000")),
        ({"ctx": 512, "prompt": 700}, ("--ctx 512", "--prompt 700")),
        ({"quants": "Q8_0", "fixed": ("model",)}, ("--quants", "--fix model")),
        ({"quants": "Q8_0", "fixed": ("quant",)}, ("--quants", "--fix quant")),
        ({"kv_types": True, "fixed": ("cache_type_v",)}, ("--kv-types", "--fix cache_type_v")),
        ({"max_kl": 0.02, "fixed": ("cache_type_k",)}, ("--max-kl 0.02", "--fix cache_type_k")),
    ],
)
def test_a_contradiction_names_both_sides(mine: Profile, options: dict[str, object], both: tuple[str, str]) -> None:
    what = refused(mine, **options)
    assert all(side in what for side in both) and "contradict each other" in what


def test_flash_attention_off_for_good_contradicts_smaller_kv_types(mine: Profile) -> None:
    off = Profile(name="mine", model=mine.model, flash_attention="off")
    assert "flash_attention" in refused(off, kv_types=True, fixed=("flash_attention",))


def test_a_limit_of_quality_with_fixed_kv_types_still_bounds_quants(mine: Profile) -> None:
    asked = wanted(mine, Options(max_kl=0.02, quants="Q8_0", fixed=("cache_type_k",)), NONE)
    assert asked.aim.max_kl == 0.02


def test_nothing_left_to_tune_and_a_text_for_nothing_are_said(mine: Profile) -> None:
    assert "nothing to tune" in refused(mine, fixed=tuple(TUNED))
    assert "--text" in refused(mine, text="a.txt")
    assert "no profile has such a key" in refused(mine, fixed=("thread",))


def test_quants_are_levels_files_and_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "pagewise" / "profiles"
    folder.mkdir(parents=True)
    (folder / "small.toml").write_text('model = "/m/small.gguf"\nquant = "Q4_K_M"\n')
    mine, guide = Profile(name="mine", model="/m/mine.gguf"), Profile(name="guide")
    assert wishes("q8_0, Q4_K_M", mine) == (QuantWish("Q8_0"), QuantWish("Q4_K_M"))
    assert wishes("/m/a.gguf,small", mine) == (QuantWish(model="/m/a.gguf"), QuantWish("Q4_K_M", "/m/small.gguf"))
    assert wishes("guide-q4", guide) == (QuantWish("Q4_K_M"),)
    with pytest.raises(TuneError) as caught:
        wishes("Q8_O", mine)
    assert "Q8_0" in caught.value.failure.next


def test_a_profile_of_the_guide_is_no_quant_of_another_model() -> None:
    with pytest.raises(TuneError) as caught:
        wishes("guide-q4", Profile(name="mine", model="/m/mine.gguf"))
    assert "guide-q4" in caught.value.failure.what and "another model" in caught.value.failure.what
