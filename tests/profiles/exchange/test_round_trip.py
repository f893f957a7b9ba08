"""Out to llama-server's options and back: the same profile, for everything that can be said."""

from __future__ import annotations

import shlex

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pagewise.profiles.draft import nested
from pagewise.profiles.exchange.read import read_command_line
from pagewise.profiles.exchange.write import export
from pagewise.profiles.schema import convert
from pagewise.settings import Keep, Lora, Profile, Sampling

share = st.floats(0, 1)
printable = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=20)
path = st.text(st.sampled_from("abz09 _-.é'\"$&;#"), min_size=1, max_size=20).map(lambda name: f"/models/{name}.gguf")
plain_path = st.text(st.sampled_from("abz09 _-.,"), min_size=1, max_size=20).map(lambda name: f"/lora/{name}.gguf")
kv_type = st.sampled_from(["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
override = st.sampled_from([r"ffn_.*_exps=CPU", r"blk\.(1|2)\.ffn=CUDA0", "token_embd=CPU"])
count = st.integers(1, 16_777_216)
seconds = st.sampled_from(["90s", "10m", "2h", "1s", "59m"])

sampling = st.builds(
    Sampling,
    temperature=st.floats(0, 10),
    top_k=st.integers(0, 1_000_000),
    top_p=share,
    min_p=share,
    repeat_penalty=st.floats(0.5, 5),
    repeat_last_n=st.integers(0, 1_000_000),
    seed=st.none() | st.integers(0, 4_294_967_294),
    max_tokens=st.none() | count,
    stop=st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))).map(tuple),
)
expressible = st.builds(
    Profile,
    name=st.just("t"),
    model=path,
    n_gpu_layers=st.integers(0, 100_000) | st.sampled_from(["all", "fit"]),
    split_mode=st.sampled_from(["none", "layer", "row", "tensor"]),
    main_gpu=st.integers(0, 64),
    tensor_split=st.lists(st.floats(0, 1e6), max_size=4).filter(lambda split: not split or any(split)).map(tuple),
    tensor_overrides=st.lists(override, max_size=3).map(tuple),
    load_mode=st.sampled_from(["auto", "mmap", "mlock", "none", "direct"]),
    repack=st.sampled_from(["on", "off"]),
    n_ctx=st.integers(0, 16_777_216),
    n_batch=count,
    n_ubatch=count,
    threads=st.integers(0, 1024),
    threads_batch=st.integers(0, 1024),
    cache_type_k=kv_type,
    cache_type_v=kv_type,
    flash_attention=st.sampled_from(["auto", "on", "off"]),
    swa_full=st.booleans(),
    lora=st.lists(st.builds(Lora, path=plain_path, scale=st.floats(-100, 100)), max_size=3).map(tuple),
    idle_unload=st.none() | seconds,
    sampling=sampling,
)


def back(text: str) -> Profile:
    return convert({"name": "t", **nested(read_command_line(text).values)})


@given(expressible)
def test_out_and_back(profile: Profile) -> None:
    written = export(profile, "llama-server", profile.model)
    assert "Not expressed" not in written
    command = "\n".join(line for line in written.split("\n") if not line.startswith("#"))
    read = back(command)
    assert read.idle_unload_s == profile.idle_unload_s
    assert msgspec.structs.replace(read, idle_unload=profile.idle_unload) == profile


@given(expressible)
def test_out_to_llama_swap_and_back(profile: Profile) -> None:
    written = export(profile, "llama-swap", profile.model)
    command = "\n".join(line.strip() for line in written.split("cmd: |\n", 1)[1].splitlines())
    read = back(command.replace("\n", " "))
    same = msgspec.structs.replace(profile, idle_unload=None)
    if "Not expressed" not in written:
        assert read == same


@given(expressible)
def test_out_to_a_preset_and_back(profile: Profile) -> None:
    model = profile.model.replace(";", "").replace("#", "")
    written = export(profile, "router-ini", model)
    pairs = [line.split(" = ", 1) for line in written.split("[t]\n", 1)[1].splitlines()]
    words = [
        f"--no-{key}" if value == "false" else f"--{key}" if value == "true" else f"--{key} {shlex.quote(value)}"
        for key, value in pairs
    ]
    read = back(" ".join(["llama-server", *words]))
    if "Not expressed" not in written:
        same = msgspec.structs.replace(profile, model=model, idle_unload=read.idle_unload)
        assert read == same


@given(st.text(max_size=200))
def test_no_command_line_ends_in_a_fault(text: str) -> None:
    from pagewise.profiles.errors import ProfileError

    try:
        imported = read_command_line("llama-server -m /x.gguf " + text)
    except ProfileError as error:
        assert error.failure.why and error.failure.next
    else:
        assert str(imported.values["model"]).startswith("/")


def test_what_cannot_be_said_is_listed() -> None:
    profile = Profile(
        name="t",
        model="/m.gguf",
        placement=Keep("12GiB"),
        keep=True,
        system_prompt="be\nbrief",
        probe_every=3,
        tensor_overrides=("a{1,2}=CPU", "x=CPU"),
    )
    written = export(profile, "llama-server", "/m.gguf")
    for words in ("placement", "keep = true", "system_prompt", "probe_every = 3", "a{1,2}=CPU"):
        assert words in written
    assert all(line.startswith("#") for line in written.split("llama-server \\")[0].strip().splitlines())
