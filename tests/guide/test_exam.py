"""The score of the shipped guide, through the engine, and the rules of its exam."""

from __future__ import annotations

import pytest
from tests.guide.exam import OUTSIDE, likeness, questions, score, training_questions, words


def test_the_exam_is_long_enough() -> None:
    exam = questions()
    outside = [question for question in exam if question.id == OUTSIDE]
    assert len(exam) - len(outside) >= 300
    assert len(outside) >= 30
    assert len({question.ask for question in exam}) == len(exam)


def test_no_held_out_question_was_trained_on() -> None:
    trained = [(wording, words(wording)) for _, wording in training_questions()]
    near = []
    for question in questions():
        mine = words(question.ask)
        near += [(question.ask, wording) for wording, theirs in trained if likeness(mine, theirs) > 0.6]
    assert not near, near[:10]


@pytest.mark.parametrize(("quant", "least"), [("F16", 0.90), ("Q8_0", 0.90), ("Q4_K_M", 0.80)])
def test_score(quant: str, least: float) -> None:
    result = score(quant)
    assert result.inside >= least, [(question.ask, reply[:80]) for question, reply in result.wrong[:8]]
    assert result.outside >= 0.80, [(question.ask, reply[:80]) for question, reply in result.wrong[-8:]]
