from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pagewise.monitor import metrics
from pagewise.monitor.metrics import parse_metrics


def test_names_of_several_versions_are_found() -> None:
    assert parse_metrics("llamacpp:tokens_predicted_total 12\n").first(metrics.DECODED) == 12
    assert parse_metrics("vllm:generation_tokens 7.0\n").first(metrics.DECODED) == 7
    assert parse_metrics("vllm:gpu_cache_usage_perc 0.25\n").first(metrics.KV_SHARE) == 0.25
    assert parse_metrics("other 1\n").first(metrics.DECODED) is None


def test_sets_of_labels_are_summed_and_comments_passed_over() -> None:
    text = '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine="0"} 2\n'
    text += 'vllm:num_requests_running{engine="1",model_name="a b"} 3 1700000000\n'
    found = parse_metrics(text)
    assert found.first(metrics.PROCESSING) == 5
    assert found.kind == "vLLM"


def test_what_is_no_number_is_no_value() -> None:
    assert parse_metrics("llamacpp:prompt_tokens_total NaN\nllamacpp:requests_processing +Inf\nx y\n").values == {}


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_metrics(text)
