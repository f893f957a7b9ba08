"""From a conversation to the token ids of a prompt."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from pagewise.engine.llamacpp.template import Message, Rendered, Rendering, TemplateProcess
from pagewise.engine.llamacpp.text import text_of
from pagewise.engine.llamacpp.vocabulary import Vocabulary
from pagewise.messages import ChatMessage
from pagewise.models.gguf import printable

PLAIN_STOP = "\nUser:"
_SPECIAL_SIGNS = ("<", "[")
"""Names of special tokens have one of these, such as ``<s>`` or ``[INST]``; looking for them saves tokenizing twice."""
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


class Prompt(NamedTuple):
    """Token ids to evaluate; strings that end the reply besides the profile's; what the person should know."""

    ids: list[int]
    stop: tuple[str, ...]
    note: str


class Prompts:
    """Makes prompts for one model with its own chat template, or with a plain one where that does not work."""

    def __init__(self, vocabulary: Vocabulary, template: str | None, renderer: TemplateProcess) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._renderer = renderer
        self._literal = lru_cache(maxsize=512)(self._literal_ids)
        self.note = "" if template else "The model has no chat template: a plain one is used."

    def try_template(self) -> str:
        """Render a small conversation once, so that a broken template is known at load. The note, or nothing."""
        if self._template:
            self._rendered([Message("user", "Hello")])
        return self.note

    @property
    def has_template(self) -> bool:
        """Whether the model's own template is in use."""
        return self._template is not None

    def prompt(self, messages: Sequence[ChatMessage], system_prompt: str) -> Prompt:
        """The prompt that asks for the next reply to ``messages``."""
        conversation = list(messages)
        if system_prompt and not any(message.role == "system" for message in conversation):
            conversation.insert(0, ChatMessage("system", system_prompt))
        given = [Message(message.role, message.text) for message in conversation]
        known = [self._ids_of(message) for message in conversation]
        text = self._rendered(given)
        pieces: list[str | tuple[int, ...]] = [text]
        if any(ids is not None for ids in known):
            pieces = self._spliced(given, known, text)
        ids = [self._vocabulary.bos] if self._vocabulary.add_bos else []
        bos = self._vocabulary.name(self._vocabulary.bos)
        for index, piece in enumerate(pieces):
            if isinstance(piece, tuple):
                ids += piece
                continue
            if index == 0 and ids and bos and piece.startswith(bos):
                piece = piece[len(bos) :]
            ids += self._vocabulary.tokenize(piece, special=True)
        return Prompt(ids, () if self._template else (PLAIN_STOP,), self.note)

    def _ids_of(self, message: ChatMessage) -> tuple[int, ...] | None:
        """Token ids that must stand for a message as they are: a reply's own, or text that names special tokens."""
        vocabulary = self._vocabulary
        if message.role == "assistant":
            if not message.ids or message.vocabulary != vocabulary.fingerprint:
                return None
            same = text_of(vocabulary.piece(id) for id in message.ids).strip() == message.text.strip()
            return message.ids if same else None
        return self._literal(message.text)

    def _literal_ids(self, text: str) -> tuple[int, ...] | None:
        if not any(sign in text for sign in _SPECIAL_SIGNS):
            return None
        plain = self._vocabulary.tokenize(text, special=False)
        return None if plain == self._vocabulary.tokenize(text, special=True) else tuple(plain)

    def _spliced(
        self, given: list[Message], known: list[tuple[int, ...] | None], text: str
    ) -> list[str | tuple[int, ...]]:
        """The prompt in pieces, with ids in the places of the messages they stand for.

        Places are found by rendering marks instead of the texts. A template that rewrites what it is given (drops
        earlier thinking, say) would not show the same prompt with the texts put back: then the text alone counts.
        """
        marks = [f"x{secrets.token_hex(8)}x" for _ in given]
        marked = self._rendered(
            [
                Message(message.role, mark if ids is not None else message.content)
                for message, ids, mark in zip(given, known, marks, strict=True)
            ]
        )
        pieces: list[str | tuple[int, ...]] = []
        rest, same, same_stripped = marked, marked, marked
        for message, ids, mark in zip(given, known, marks, strict=True):
            if ids is None:
                continue
            before, found, rest = rest.partition(mark)
            if not found or mark in rest:
                return [text]
            pieces += [before, ids]
            same = same.replace(mark, message.content)
            same_stripped = same_stripped.replace(mark, message.content.strip())
        if text not in (same, same_stripped):
            return [text]
        return [*pieces, rest]

    def _rendered(self, messages: list[Message]) -> str:
        if self._template is None:
            return plain_prompt(messages)
        rendered = self._render(messages)
        if rendered.text is None and not rendered.timed_out:
            # Some templates know no system role, or insist on turns that alternate.
            rendered = self._render(alternating(messages))
        if rendered.text is not None:
            return rendered.text
        self._template = None
        self.note = f"The model's chat template does not work ({printable(rendered.why)}): a plain one is used."
        return plain_prompt(messages)

    def _render(self, messages: list[Message]) -> Rendered:
        assert self._template is not None
        name = self._vocabulary.name
        return self._renderer.render(
            Rendering(self._template, name(self._vocabulary.bos), name(self._vocabulary.eos), tuple(messages))
        )


def alternating(messages: list[Message]) -> list[Message]:
    """The same with the system prompt put into the first question, and neighbours of one role joined."""
    joined: list[Message] = []
    for message in messages:
        role = "user" if message.role == "system" else message.role
        if joined and joined[-1].role == role:
            joined[-1] = Message(role, f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(Message(role, message.content))
    return joined


def plain_prompt(messages: list[Message]) -> str:
    """The prompt for a model without a usable template."""
    lines = [
        message.content if message.role == "system" else f"{_ROLES[message.role]}: {message.content}"
        for message in messages
    ]
    return "\n\n".join([*lines, "Assistant:"])
