"""The steps of a build of the guide, from corpus to scored files."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from training.agree import agree
from training.corpus import UNKNOWN, Guard, Question, load_held_out, load_questions
from training.export import export
from training.model import Shape
from training.samples import Sampler
from training.score import QUANTS, quantize, score
from training.tokenizer import Encoder, train_tokenizer
from training.train import Plan, rates, train

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.run", description="Trains the guide and writes its GGUF.")
    parser.add_argument("--steps", type=int, default=Plan.steps, help="length of the schedule")
    parser.add_argument("--minutes", type=float, default=Plan.minutes, help="the schedule ends here at the latest")
    parser.add_argument("--build", type=Path, default=HERE / "build", help="checkpoint, tokenizer, loss curve")
    parser.add_argument("--target", type=Path, help="where the F16 file goes (default: in the build folder)")
    parser.add_argument("--dev", type=int, default=0, help="wordings of each question kept back from training")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--dropout", type=float, default=Plan.dropout)
    parser.add_argument("--strength", type=float, default=1.0, help="of augmentation")
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument("--no-compile", action="store_true", help="plain PyTorch, where there is no C++ compiler")
    parser.add_argument("--no-score", action="store_true", help="leave the held-out questions alone")
    return parser.parse_args()


def keep_back(questions: list[Question], each: int) -> list[tuple[str, str]]:
    """Takes ``each`` wordings away from every question that has at least four times as many."""
    pairs: list[tuple[str, str]] = []
    for question in questions:
        many = each * 10 if question.id == UNKNOWN else each
        if many and len(question.wordings) >= 4 * many:
            order = sorted(question.wordings[1:], key=lambda w: hashlib.sha256(w.encode()).digest())[:many]
            question.wordings = [w for w in question.wordings if w not in set(order)]
            pairs += [(w, question.answer) for w in order]
    return pairs


def build(options: argparse.Namespace) -> int:
    options.build.mkdir(parents=True, exist_ok=True)
    target = options.target or options.build / "pagewise-guide-f16.gguf"
    questions = load_questions(HERE / "corpus")
    held_out = load_held_out(ROOT / "tests" / "guide" / "held_out.toml")
    guard = Guard(held_out)
    dropped = guard.drop_from(questions)
    dev = keep_back(questions, options.dev)
    wordings = sum(len(q.wordings) for q in questions)
    print(f"{len(questions)} questions, {wordings} wordings, {dropped} too like held-out, {len(dev)} for dev")

    shape = Shape()
    tokenizer = options.build / "tokenizer.json"
    train_tokenizer(questions, shape.vocab, options.seed).save(str(tokenizer))
    encoder = Encoder(tokenizer, looseness=0.1)
    plan = Plan(
        steps=options.steps, minutes=options.minutes, seed=options.seed, rate=options.rate, dropout=options.dropout,
        threads=options.threads, compiled=not options.no_compile,
    )  # fmt: skip
    sampler = Sampler(questions, encoder, guard, plan.tokens, plan.seed, options.strength)
    guide = train(shape, plan, sampler, options.build, dev)
    if dev:
        print("dev: begun right {:.3f}, whole answer {:.3f}".format(*rates(guide, sampler, dev)))

    export(guide, tokenizer, target)
    conversation = [i for q in questions[:12] for i in encoder.question(q.ask) + encoder.answer(q.answer)]
    texts = [q.answer for q in questions] + [w for q in questions for w in q.wordings[:4]]
    agreement = agree(guide, encoder, target, texts, conversation)
    print(agreement)
    report: dict[str, object] = {"agreement": asdict(agreement), "bytes": target.stat().st_size}
    files = {"F16": target}
    for quant in QUANTS:
        files[quant] = options.build / f"pagewise-guide-{quant.lower()}.gguf"
        quantize(target, files[quant], quant)
    if not options.no_score and held_out:
        for quant, path in files.items():
            result = score(path, held_out)
            print(f"{quant}: {result}")
            report[quant] = asdict(result)
        result = score(target, held_out, second_turn=True)
        print(f"F16, second turn: {result}")
        report["F16 second turn"] = asdict(result)
    (options.build / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
    return 0 if agreement.holds else 1
