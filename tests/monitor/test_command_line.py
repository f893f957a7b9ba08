from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.monitor.command_line import parse_command_line


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["/usr/bin/llama-server", "-m", "x.gguf"], "llama-server"),
        (["/usr/local/bin/ollama", "runner", "--model", "/blobs/sha256-1"], "Ollama"),
        (["/home/u/.lmstudio/bin/node", "worker"], "LM Studio"),
        (["python3.11", "koboldcpp.py", "--model", "x.gguf"], "koboldcpp"),
        (["/usr/bin/python3", "-m", "llama_cpp.server", "--model", "x.gguf"], "llama_cpp.server"),
        (["python", "-m", "pagewise.engine"], "pagewise"),
        (["python", "-c", "pass"], "python"),
        ([], "kworker"),
    ],
)
def test_the_program_is_named_as_people_know_it(argv: list[str], program: str) -> None:
    assert parse_command_line(argv, "kworker" if not argv else "python").program == program


def test_model_port_and_threads_are_found_with_and_without_an_equals_sign() -> None:
    line = parse_command_line(["llama-server", "--model=/a b.gguf", "--host", "0.0.0.0", "--port=8081", "-t", "6"])
    assert (line.models, line.host, line.port, line.threads) == (("/a b.gguf",), "0.0.0.0", 8081, 6)


def test_a_model_without_an_option_counts_only_for_programs_that_run_models() -> None:
    assert parse_command_line(["koboldcpp", "a.gguf"]).models == ("a.gguf",)
    assert parse_command_line(["vim", "a.gguf"]).models == ()


def test_only_the_engine_of_pagewise_is_an_engine() -> None:
    assert parse_command_line(["python", "-m", "pagewise.engine"]).is_engine
    assert not parse_command_line(["python", "-m", "pagewise.host"]).is_engine
    assert not parse_command_line(["search", "engine"]).is_engine


@pytest.mark.parametrize("port", ["0", "65536", "-1", "٣", "8080x", ""])
def test_a_port_that_is_none_is_not_taken(port: str) -> None:
    assert parse_command_line(["llama-server", "--port", port]).port is None


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_command_line_gives_a_program(argv: list[str]) -> None:
    assert parse_command_line(argv).program
