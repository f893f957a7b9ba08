"""Text to token ids and back, with the model's own tokenizer."""

from __future__ import annotations

import ctypes
import hashlib

from llama_cpp import llama_cpp

from pagewise.models.gguf import GgufHeader, Skipped

_PIECE = 256


class Vocabulary:
    """The tokenizer of a loaded model. Valid as long as the model is."""

    def __init__(self, model: int, header: GgufHeader) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.fingerprint = fingerprint(header)
        self.add_bos: bool = llama_cpp.llama_vocab_get_add_bos(self._vocab)
        self.add_eos: bool = llama_cpp.llama_vocab_get_add_eos(self._vocab)
        self.bos: int = llama_cpp.llama_vocab_bos(self._vocab)
        self.eos: int = llama_cpp.llama_vocab_eos(self._vocab)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of ``text``; with ``special`` the names of special tokens in it become those tokens.

        Text that is not valid Unicode loses the offending characters to U+FFFD. No BOS is added.
        """
        return self._ids(text.encode("utf-8", errors="replace"), add_special=False, parse_special=special)

    def tokenize_document(self, raw: bytes) -> list[int]:
        """Token ids of a text as it stands in a file, with what the model wants before its first token."""
        return self._ids(raw, add_special=True, parse_special=False)

    def _ids(self, raw: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        room = len(raw) + 16
        ids = (ctypes.c_int32 * room)()
        count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
        if count < 0:
            ids = (ctypes.c_int32 * -count)()
            count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, -count, add_special, parse_special)
        return ids[:count]

    def piece(self, id: int) -> bytes:
        """The bytes that a token adds to the text: part of a character, several words, or nothing (special tokens)."""
        piece = self._pieces.get(id)
        if piece is None:
            piece = self._pieces[id] = self._text_of(id)
        return piece

    def is_end(self, id: int) -> bool:
        """Whether the token ends the reply."""
        end = self._ends.get(id)
        if end is None:
            end = self._ends[id] = bool(llama_cpp.llama_vocab_is_eog(self._vocab, id))
        return end

    def name(self, id: int) -> str:
        """The token as written in the vocabulary, such as ``<s>``; empty for an id that is none."""
        if not 0 <= id < self.n_tokens:
            return ""
        return bytes(llama_cpp.llama_vocab_get_text(self._vocab, id)).decode("utf-8", errors="replace")

    def _text_of(self, id: int) -> bytes:
        if not 0 <= id < self.n_tokens:
            return b""
        room = _PIECE
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_token_to_piece(self._vocab, id, buffer, room, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            room = -count


def fingerprint(header: GgufHeader) -> str:
    """Equal wherever token ids mean the same: a digest of the tokenizer's metadata, whatever the quant.

    Raises OSError where the file cannot be read any more.
    """
    digest = hashlib.sha256()
    with header.path.open("rb") as file:
        for key in sorted(header.metadata):
            if not key.startswith("tokenizer.ggml."):
                continue
            value = header.metadata[key]
            digest.update(key.encode())
            if isinstance(value, Skipped):
                file.seek(value.start)
                digest.update(file.read(value.end - value.start))
            else:
                digest.update(repr(value).encode())
    return digest.hexdigest()[:16]
