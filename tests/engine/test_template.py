"""Chat templates are programs of strangers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewise.engine.llamacpp.template import Message, Rendered, Rendering, TemplateProcess
from pagewise.engine.prompt import alternating, plain_prompt

MESSAGES = (Message("user", "hello"),)


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateProcess]:
    process = TemplateProcess()
    yield process
    process.close()


def render(renderer: TemplateProcess, template: str, messages: tuple[Message, ...] = MESSAGES) -> Rendered:
    return renderer.render(Rendering(template, "<s>", "</s>", messages))


def test_a_template_gets_what_it_expects(renderer: TemplateProcess) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m['role'] }}:{{ m.content | trim }}{% endfor %}{{ eos_token }}"
    messages = (Message("user", " hi\n"), Message("assistant", "\N{GRINNING FACE}"))
    assert render(renderer, template, messages).text == "<s>user:hiassistant:\N{GRINNING FACE}</s>"


def test_what_a_template_raises_is_the_reason(renderer: TemplateProcess) -> None:
    answer = render(renderer, "{{ raise_exception('only three roles') }}")
    assert answer.text is None and "only three roles" in answer.why and not answer.timed_out


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ range(10 ** 9) | list | length }}",
        "{{ 'x' * 10 ** 12 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_what_a_template_must_not_do_ends_in_a_reason(renderer: TemplateProcess, template: str) -> None:
    answer = render(renderer, template)
    assert answer.text is None and answer.why
    assert render(renderer, "{{ messages[0].content }}").text == "hello"


def test_a_template_that_never_ends_is_ended(renderer: TemplateProcess) -> None:
    loop = "{% for a in range(99999) %}"
    answer = render(renderer, loop * 4 + "{% endfor %}" * 4)
    assert answer.text is None and answer.timed_out and "not done after" in answer.why
    assert render(renderer, "{{ messages[0].content }}").text == "hello"


def test_a_long_conversation_goes_through(renderer: TemplateProcess) -> None:
    text = "a long story " * 200_000
    assert render(renderer, "{{ messages[0].content }}", (Message("user", text),)).text == text


def test_a_template_process_that_is_gone_is_a_reason() -> None:
    renderer = TemplateProcess()
    renderer.close()
    answer = render(renderer, "{{ messages[0].content }}")
    assert answer.text is None and "has ended" in answer.why


messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=5)), max_size=8
)


@given(messages)
def test_alternating_keeps_every_word_in_order(conversation: list[Message]) -> None:
    joined = alternating(conversation)
    assert all(first.role != second.role for first, second in pairwise(joined))
    assert all(message.role != "system" for message in joined)
    assert "\n\n".join(message.content for message in joined) == "\n\n".join(
        message.content for message in conversation
    )


def test_plain_prompt() -> None:
    conversation = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Ho")]
    assert plain_prompt(conversation) == "Be brief.\n\nUser: Hi\n\nAssistant: Ho\n\nAssistant:"
