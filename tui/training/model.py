"""The guide's network: the graph that llama.cpp calls "llama", small enough for two processor cores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    vocab: int = 2048
    width: int = 256
    inner: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    context: int = 1024
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_table(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angle = torch.arange(length, dtype=torch.float32)[:, None] * shape.rope_base ** -half[None, :]
    return angle.cos()[:, None, :], angle.sin()[:, None, :]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns neighbouring pairs (0,1), (2,3), ... as llama.cpp does for "llama": no permutation at export."""
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def drop(x: Tensor, rate: float) -> Tensor:
    """One dropout mask for all positions of a sequence: far fewer random numbers than one for each value."""
    keep = torch.rand(x.shape[0], 1, x.shape[2]) >= rate
    return x * (keep.to(x.dtype) / (1.0 - rate))


class Block(nn.Module):
    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        kv = shape.kv_heads * shape.head_dim
        self.attn_norm = RMSNorm(shape.width, shape.norm_eps)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv, bias=False)
        self.attn_v = nn.Linear(shape.width, kv, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = RMSNorm(shape.width, shape.norm_eps)
        self.ffn_gate = nn.Linear(shape.width, shape.inner, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.inner, bias=False)
        self.ffn_down = nn.Linear(shape.inner, shape.width, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        s, (batch, length, _) = self.shape, x.shape
        group = s.heads // s.kv_heads
        q = rotate(self.attn_q(x).view(batch, length, s.heads, s.head_dim), cos, sin).to(x.dtype)
        k = rotate(self.attn_k(x).view(batch, length, s.kv_heads, s.head_dim), cos, sin).to(x.dtype)
        v = self.attn_v(x).view(batch, length, s.kv_heads, s.head_dim).transpose(1, 2)
        q = q.view(batch, length, s.kv_heads, group, s.head_dim).permute(0, 2, 3, 1, 4)
        q = q.reshape(batch, s.kv_heads, group * length, s.head_dim)
        scores = (q @ k.permute(0, 2, 3, 1)).view(batch, s.kv_heads, group, length, length)
        scores = scores * s.head_dim**-0.5 + mask.to(scores.dtype)
        weight = (scores - scores.amax(-1, keepdim=True).detach()).exp()
        weight = (weight / weight.sum(-1, keepdim=True)).to(v.dtype)
        y = weight.view(batch, s.kv_heads, group * length, length) @ v
        y = y.view(batch, s.heads, length, s.head_dim).transpose(1, 2)
        return self.attn_output(y.reshape(batch, length, s.width))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        h = self.attend(self.attn_norm(x), cos, sin, mask)
        x = x + (drop(h, self.dropout) if self.training else h)
        h = self.ffn_norm(x)
        h = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + (drop(h, self.dropout) if self.training else h)


class Guide(nn.Module):
    """Embedding and output share one matrix."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.token_embd = nn.Embedding(shape.vocab, shape.width)
        self.blk = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.output_norm = RMSNorm(shape.width, shape.norm_eps)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("attn_output.weight", "ffn_down.weight"))
                std = 0.04 if "token_embd" in name else shape.width**-0.5
                nn.init.normal_(weight, std=std * ((2 * shape.layers) ** -0.5 if deep else 1.0))

    def hidden(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        cos, sin = rope_table(self.shape, length)
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_embd(ids)
        if self.training:
            x = drop(x, self.dropout)
        for block in self.blk:
            x = block(x, cos, sin, mask)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.token_embd.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.hidden(ids))
