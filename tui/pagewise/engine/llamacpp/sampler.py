"""How the next token is chosen from the logits."""

from __future__ import annotations

import secrets

from llama_cpp import llama_cpp

from pagewise.settings import Sampling

_MAX_SEED = 4_294_967_295


class Sampler:
    """A llama.cpp sampler chain: penalties, top-k, top-p, min-p, temperature, then a draw by seed (or the best)."""

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        params = llama_cpp.llama_sampler_chain_default_params()
        params.no_perf = True
        self.pointer = llama_cpp.llama_sampler_chain_init(params)
        self.window = sampling.repeat_last_n if sampling.repeat_penalty != 1.0 else 0
        self.seed = secrets.randbelow(_MAX_SEED) if sampling.seed is None else sampling.seed
        if self.window:
            self._add(llama_cpp.llama_sampler_init_penalties(n_vocab, self.window, sampling.repeat_penalty, 0.0, 0.0))
        if sampling.temperature == 0.0:
            self._add(llama_cpp.llama_sampler_init_greedy())
            return
        if sampling.top_k:
            self._add(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1.0:
            self._add(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0.0:
            self._add(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        if sampling.temperature != 1.0:
            self._add(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        self._add(llama_cpp.llama_sampler_init_dist(self.seed))

    def _add(self, stage: int) -> None:
        llama_cpp.llama_sampler_chain_add(self.pointer, stage)

    def see(self, prompt: list[int]) -> None:
        """The prompt's last tokens count for the repetition penalty as well."""
        for id in prompt[-self.window :] if self.window else ():
            llama_cpp.llama_sampler_accept(self.pointer, id)

    def free(self) -> None:
        """Give the memory back."""
        if self.pointer:
            llama_cpp.llama_sampler_free(self.pointer)
            self.pointer = None
