from __future__ import annotations

from pathlib import Path

import pytest

from pagewise.profiles.errors import ProfileError
from pagewise.profiles.exchange.read import read_command_line

HERE = Path("/here")


def values(text: str) -> dict[str, object]:
    return read_command_line(text, HERE).values


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ("-ngl 20", "n_gpu_layers", 20),
        ("-ngl all", "n_gpu_layers", None),
        ("-ngl 99 --fit off", "n_gpu_layers", 99),
        ("", "n_gpu_layers", "fit"),
        ("--fit off", "n_gpu_layers", None),
        ("--device none", "n_gpu_layers", 0),
        ("--fit-target 512", "fit_margin", "512MiB"),
        ("", "n_ctx", 0),
        ("-c 8192", "n_ctx", 8192),
        ("--ctx_size=8192", "n_ctx", 8192),
        ("-fa", "flash_attention", "on"),
        ("-fa 0", "flash_attention", "off"),
        ("--no-mmap", "load_mode", "none"),
        ("-lm dio", "load_mode", "direct"),
        ("--cpu-moe", "tensor_overrides", [r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"]),
        ("-ncmoe 2", "tensor_overrides", [r"blk\.(0|1)\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"]),
        ("-ot a=CPU,b=CUDA0", "tensor_overrides", ["a=CPU", "b=CUDA0"]),
        ("-ts 3/1", "tensor_split", [3.0, 1.0]),
        ("-n -1", "sampling.max_tokens", None),
        ("-s -1", "sampling.seed", None),
        ("", "sampling.temperature", 0.8),
        ("-r 'a\\nb' -r c", "sampling.stop", ["a\nb", "c"]),
        ("--lora a.gguf", "lora", [{"path": "/here/a.gguf", "scale": 1.0}]),
        ("--lora-scaled '/a,b.gguf:0.5'", "lora", None),
        ("""--lora-scaled '"/a,b.gguf:0.5"'""", "lora", [{"path": "/a,b.gguf", "scale": 0.5}]),
        ("--sleep-idle-seconds 600", "idle_unload", "10m"),
        ("-nr", "repack", "off"),
    ],
)
def test_options(options: str, key: str, value: object) -> None:
    if value is None and "lora" in options:
        with pytest.raises(ProfileError):
            values(f"llama-server -m x.gguf {options}")
        return
    assert values(f"llama-server -m x.gguf {options}").get(key) == value


def test_environment_before_the_program_counts_and_options_count_more() -> None:
    read = read_command_line("LLAMA_ARG_CTX_SIZE=512 LLAMA_ARG_MODEL=/m.gguf FOO=1 ./bin/llama-server -c 1024", HERE)
    assert read.values["model"] == "/m.gguf" and read.values["n_ctx"] == 1024
    assert "FOO=1" in read.remarks


def test_lines_that_go_on_and_what_is_for_the_shell() -> None:
    read = read_command_line("nohup llama-server \\\n  -m ~/x.gguf \\\n -c 512 > log.txt 2>&1 &", HERE)
    assert read.values["n_ctx"] == 512 and read.values["model"] == str(Path("~/x.gguf").expanduser())
    assert any(remark.startswith("> log.txt") for remark in read.remarks)
    assert any(remark.startswith("nohup") for remark in read.remarks)


def test_nothing_is_lost_in_silence() -> None:
    read = read_command_line("llama-server -m x.gguf --port 8080 --metrics --reasoning-budget -1 --wat a -np 4", HERE)
    remarks = "\n".join(read.remarks)
    for words in ("--port 8080", "--metrics", "--reasoning-budget -1", "--wat a", "--parallel 4"):
        assert words in remarks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("llama-server -c 512", "no -m"),
        ("llama-server -hf org/repo:Q4_K_M", "pagewise pull org/repo:Q4_K_M"),
        ("llama-server -m 'x", "quotes do not match"),
        ("llama-server -m x.gguf -c", "has no value"),
        ("llama-server -m x.gguf -c -5", "not -5"),
        ("llama-server -m x.gguf -c many", "many"),
        ("llama-server -m x.gguf -ncmoe x", "number of layers"),
        ("llama-server -m x.gguf -ts 1,x", "tensor"),
        ("llama-server -m x.gguf -ot 'a[=CPU'", "regular expression is wrong"),
        ("", "no -m"),
        ("\0", "characters"),
    ],
)
def test_what_cannot_be_taken_is_said(text: str, words: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read_command_line(text, HERE)
    failure = caught.value.failure
    assert failure.what and failure.why and failure.next
    if words != "tensor":
        assert words in f"{failure.what} {failure.why} {failure.next}"


@pytest.mark.parametrize(
    ("model", "name"), [("/m/Qwen 2.5.gguf", "Qwen 2.5"), ("/m/_x?.gguf", "x-"), ("/m/----.gguf", "imported")]
)
def test_a_name_is_proposed(model: str, name: str) -> None:
    assert read_command_line(f"llama-server -m '{model}'").name == name
