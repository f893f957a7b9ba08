"""Fixed profiles."""

from __future__ import annotations

from pagewise.readings import GraphNode, OperatorProfile, StackProfile

NODES = (
    GraphNode("GET_ROWS", "embd", "input", "CPU", "token_embd.weight", "q4_K", 4_000, 0.01),
    GraphNode("RMS_NORM", "norm-0", "0", "CPU", "", "f32", 8_000, 0.02),
    GraphNode("MUL", "attn_norm-0", "0", "CPU", "blk.0.attn_norm.weight", "f32", 9_000, 0.02),
    GraphNode("MUL_MAT", "Qcur-0", "0", "CPU", "blk.0.attn_q.weight", "q4_K", 9_000_000, 1.5),
    GraphNode("MUL_MAT", "kq-0", "0", "CPU", "", "f16", 400_000, 0.2),
    GraphNode("SWIGLU", "ffn_swiglu-0", "0", "CPU", "", "f32", 60_000, 0.1),
    GraphNode("FLASH_ATTN_EXT", "fattn-1", "1", "CUDA0", "", "f16", 400_000, 0.1),
    GraphNode("MUL_MAT_ID", "ffn_moe_gate-1", "1", "CUDA0", "blk.1.ffn_gate_exps.weight", "q4_K", 7_000_000, 0.3),
    GraphNode("MUL_MAT", "result_output", "output", "CPU", "output.weight", "q6_K", 8_000_000, 2.0),
)


def operators(step_ms: float = 20.0, usual_ms: float | None = 10.0) -> OperatorProfile:
    return OperatorProfile(12, 340, step_ms, usual_ms, NODES, 0.0015)


OPERATORS = operators()
STACKS = StackProfile(
    pid=4711,
    program="engine",
    tool="py-spy",
    rate_hz=100,
    seconds=5.0,
    native=True,
    folded=(
        "thread (1): MainThread;run (/x/tui/pagewise/engine/loop.py:40);decode (/x/tui/pagewise/engine/decode.py:9);"
        "llama_decode (/v/lib/libllama.so);ggml_graph_compute (/v/lib/libggml-cpu.so.0) 300\n"
        "thread (1): MainThread;run (/x/tui/pagewise/engine/loop.py:40);sample (/x/decode.py:3) 100\n"
        "thread (1): MainThread;_Engine.next (/x/tui/pagewise/engine/loop.py:86) 100\n"
    ),
    unseen_threads=3,
    unseen_cores=2.9,
)
