"""Byte-level BPE in GPT-2's manner, trained on the corpus, and the one way to write a conversation as token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.augment import augment
from training.corpus import Question

END, SYSTEM, USER, GUIDE = "<|end|>", "<|system|>", "<|user|>", "<|guide|>"
SPECIAL = [END, SYSTEM, USER, GUIDE]
PRE = "gpt-2"
"""Name under which llama.cpp knows this pre-tokenization."""

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}<|system|> {{ message['content'] | trim }}<|end|>"
    "{% elif message['role'] == 'user' %}<|user|> {{ message['content'] | trim }}<|end|>"
    "{% else %}<|guide|>{{ message['content'] | trim }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|guide|>{% endif %}"
)
"""The space before a question makes its first word the same token as that word within a sentence."""


def train_tokenizer(questions: Sequence[Question], vocabulary: int, seed: int) -> Tokenizer:
    """Words are counted as the model will meet them: capitals and small letters, answers and augmented questions."""
    rng = Random(seed)

    def texts() -> Iterable[str]:
        for question in questions:
            yield from [question.answer] * 6
            many = max(1, 120 // max(1, len(question.wordings))) if question.id != "unknown" else 1
            for wording in question.wordings:
                yield " " + wording
                yield " " + wording.lower()
                yield from (" " + augment(wording, rng, 0.6) for _ in range(many))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"the corpus gives only {tokenizer.get_vocab_size()} of {vocabulary} tokens")
    return tokenizer


class Encoder:
    """Turns text into ids; ``loose`` splits words at random places (BPE dropout), so odd spellings become familiar."""

    def __init__(self, path: Path, looseness: float = 0.0) -> None:
        self.exact = Tokenizer.from_file(str(path))
        self.loose = Tokenizer.from_file(str(path))
        self.loose.model.dropout = looseness or None
        self.end, self.system, self.user, self.guide = (self.exact.token_to_id(s) for s in SPECIAL)

    def text(self, text: str, loose: bool = False) -> list[int]:
        tokenizer = self.loose if loose else self.exact
        return tokenizer.encode(text, add_special_tokens=False).ids

    def question(self, text: str, loose: bool = False) -> list[int]:
        """A user's turn and the token that asks for the reply."""
        return [self.user, *self.text(" " + text.strip(), loose), self.end, self.guide]

    def answer(self, text: str) -> list[int]:
        return [*self.text(text.strip()), self.end]

    def system_line(self, text: str) -> list[int]:
        return [self.system, *self.text(" " + text.strip()), self.end]
