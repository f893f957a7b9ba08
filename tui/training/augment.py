"""Makes many questions of one: other frames, other words for the same thing, manners, slips of the finger."""

from __future__ import annotations

import re
from random import Random

SAME = [
    ["vram", "video memory", "gpu memory", "graphics memory", "video ram", "card memory"],
    ["ram", "system memory", "main memory", "computer memory"],
    ["gpu", "graphics card", "video card", "graphics processor"],
    ["cpu", "processor"],
    ["kv cache", "key value cache", "key-value cache", "k/v cache", "kvcache", "attention cache"],
    ["tokens per second", "tok/s", "t/s", "tokens a second", "token rate"],
    ["context window", "context length", "context size"],
    ["quantization", "quantisation", "quantizing", "quantising"],
    ["quantized", "quantised"],
    ["memory mapping", "mmap", "memory-mapping", "memory mapped loading"],
    ["speculative decoding", "spec decoding", "speculation"],
    ["flash attention", "flash-attention", "flash attn", "fa"],
    ["ssd", "solid state drive", "nvme drive"],
    ["disk", "drive", "storage"],
    ["language model", "llm", "large language model", "ai model"],
    ["conversation", "chat", "dialogue"],
    ["reply", "answer", "response"],
    ["prompt", "message", "input"],
    ["difference", "distinction"],
    ["happens", "goes on", "takes place"],
    ["download", "get", "fetch"],
    ["start", "launch", "run"],
    ["stop", "cancel", "interrupt", "abort"],
    ["delete", "remove", "erase"],
    ["change", "switch", "set", "adjust"],
    ["turn on", "enable", "switch on", "activate"],
    ["turn off", "disable", "switch off", "deactivate"],
    ["choose", "pick", "select"],
    ["quit", "exit", "close", "leave"],
    ["big", "large"],
    ["bigger", "larger"],
    ["small", "little"],
    ["slow", "sluggish"],
    ["fast", "quick"],
    ["faster", "quicker"],
    ["better", "superior"],
    ["computer", "machine", "pc"],
    ["laptop", "notebook"],
    ["gauge", "meter", "indicator"],
    ["theme", "colour scheme", "color scheme"],
    ["colours", "colors"],
    ["colour", "color"],
    ["folder", "directory"],
    ["key", "shortcut", "hotkey"],
    ["reduce", "lower", "decrease", "cut"],
    ["increase", "raise"],
    ["need", "require"],
    ["use", "utilize"],
    ["internet", "network", "web"],
    ["weights", "parameters"],
    ["split", "divided"],
    ["stored", "kept", "saved"],
    ["mean", "stand for", "tell me"],
    ["why", "how come", "for what reason"],
]
_SAME = {one: [o for o in group if o != one] for group in SAME for one in group}
_SAME_RE = re.compile(
    r"(?<![\w-])(" + "|".join(re.escape(s) for s in sorted(_SAME, key=len, reverse=True)) + r")(?![\w-])", re.I
)

_ARTICLE = r"(?:(?:a|an|the) )?"
FRAMES: list[tuple[re.Pattern[str], list[str]]] = [
    (
        re.compile(
            r"^(?:what(?:'s| is| are|s)|explain) (?:the )?(?:difference|distinction) between (.+?) and (.+)$", re.I
        ),
        [
            "what is the difference between {0} and {1}",
            "what's the difference between {0} and {1}",
            "difference between {1} and {0}",
            "{0} vs {1}",
            "{1} vs {0}",
            "{0} versus {1}",
            "{0} or {1}, what is the difference",
            "how do {0} and {1} differ",
            "how is {0} different from {1}",
            "compare {0} and {1}",
            "compare {0} with {1}",
            "{0} compared to {1}",
            "is {0} the same as {1}",
            "are {0} and {1} the same thing",
            "what sets {0} apart from {1}",
        ],
    ),
    (
        re.compile(rf"^(?:what(?:'s| is| are|s)|define|explain|describe) {_ARTICLE}((?:[\w./+-]+ ?){{1,4}})$", re.I),
        [
            "what is {0}",
            "what's {0}",
            "whats {0}",
            "what is a {0}",
            "what is the {0}",
            "what are {0}",
            "explain {0}",
            "explain {0} to me",
            "explain what {0} is",
            "{0}",
            "{0} meaning",
            "{0} definition",
            "{0} explained",
            "define {0}",
            "describe {0}",
            "tell me about {0}",
            "tell me what {0} is",
            "what does {0} mean",
            "what do you mean by {0}",
            "what is meant by {0}",
            "meaning of {0}",
            "can you explain {0}",
            "I do not know what {0} is",
            "I don't understand {0}",
            "what exactly is {0}",
            "what the heck is {0}",
            "and what is {0}",
            "so what is this {0} thing",
            "what is {0} about",
            "give me a definition of {0}",
            "could you say what {0} is",
            "help me understand {0}",
            "never heard of {0}, what is it",
            "i keep seeing {0}, what is that",
            "what is this {0} i read about",
            "{0} - what is that",
        ],
    ),
    (
        re.compile(r"^what (?:does|do) (?:the )?((?:[\w./+-]+ ?){1,5}?) (?:mean|stand for)$", re.I),
        [
            "what does {0} mean",
            "what does {0} stand for",
            "meaning of {0}",
            "{0} meaning",
            "explain {0}",
            "what is {0}",
            "what is meant by {0}",
            "what is the meaning of {0}",
            "{0} means what",
            "how should I read {0}",
        ],
    ),
    (
        re.compile(r"^what (?:does|do) (.+?) do$", re.I),
        ["what does {0} do", "what is {0} for", "what is the job of {0}", "purpose of {0}", "explain what {0} does"],
    ),
    (
        re.compile(r"^how (?:do|can|could|should|would) (?:i|you|we|one) (.+)$", re.I),
        [
            "how do I {0}",
            "how can I {0}",
            "how could I {0}",
            "how to {0}",
            "how would I {0}",
            "how do you {0}",
            "how does one {0}",
            "what do I do to {0}",
            "what must I do to {0}",
            "what is the way to {0}",
            "I want to {0}",
            "I'd like to {0}",
            "I need to {0}",
            "is there a way to {0}",
            "can I {0}",
            "is it possible to {0}",
            "help me {0}",
            "show me how to {0}",
            "tell me how to {0}",
            "ways to {0}",
            "steps to {0}",
            "best way to {0}",
            "i am trying to {0}",
            "how am I supposed to {0}",
            "what's the easiest way to {0}",
            "can you tell me how to {0}",
        ],
    ),
    (
        re.compile(r"^(?:can|could|may) (?:i|you|we|one) (.+)$", re.I),
        [
            "can I {0}",
            "could I {0}",
            "is it possible to {0}",
            "am I able to {0}",
            "is there a way to {0}",
            "can you {0}",
            "may I {0}",
            "would I be able to {0}",
        ],
    ),
    (
        re.compile(r"^(?:why|how come|for what reason) (.+)$", re.I),
        [
            "why {0}",
            "so why {0}",
            "but why {0}",
            "how come {0}",
            "why exactly {0}",
            "what is the reason: why {0}",
            "explain why {0}",
            "do you know why {0}",
            "I wonder why {0}",
        ],
    ),
    (
        re.compile(r"^(?:is|are|does|do|will|must|should) (.+)$", re.I),
        ["{whole}", "tell me, {whole}", "{whole} or not", "I wonder, {whole}", "is it so: {whole}", "so {whole}"],
    ),
]

BEFORE = [
    "please tell me", "tell me", "can you tell me", "could you tell me", "please", "hey", "hi", "hello", "hi,", "ok",
    "okay", "so", "and", "um", "quick question:", "question:", "sorry,", "sorry to ask, but", "i wonder", "wondering",
    "i'd like to know", "i want to know", "i have a question:", "do you know", "one more thing:", "also,", "now",
    "thanks. and", "just curious,", "newbie here,", "i'm new to this,", "in simple words,", "in short,", "briefly,",
    "for a beginner:", "excuse me,", "hmm,", "well,", "guide,", "dear guide,", "no idea,", "i forgot:", "remind me,",
    "can you explain", "help,", "honestly,", "out of curiosity,", "could you explain", "any idea", "yo", "alright,",
]  # fmt: skip
AFTER = [
    "please", "thanks", "thank you", "then", "exactly", "actually", "again", "anyway", "in simple words", "in short",
    "briefly", "for a beginner", "for dummies", "in pagewise", "here", "by the way", "btw", "right", "you know",
    "can you explain", "i wonder", "pls", "in llama.cpp", "in general", "please explain", "tell me", "really",
    "in plain english", "like i am five", "in this program", "in this app", "do you know", "any idea", "thx",
    "with local models", "when running a model", "i forgot", "in practice", "in one sentence",
]  # fmt: skip
ASIDE = [
    "I have 16 GB of RAM.", "I have an RTX 3060.", "My laptop is old.", "I run a 7B model.", "I am new to this.",
    "I use Linux.", "I am on a Mac.", "I downloaded a Q4_K_M file.", "I read about it somewhere.", "My card has 8 GB.",
    "A friend told me about it.", "I just installed pagewise.", "I saw it on the screen.", "It confuses me.",
    "I tried everything.", "I have 32 GB RAM and a 4090.", "I am a student.", "This is my first local model.",
    "Good morning.", "Nice program!", "I loaded a 13B model.", "Thanks for the last answer.",
]  # fmt: skip
SHORT = {
    "what is": "what's", "do not": "don't", "does not": "doesn't", "is not": "isn't", "cannot": "can't", "i am": "i'm",
    "it is": "it's", "you": "u", "are": "r", "please": "pls", "because": "cuz", "with": "w/", "without": "w/o",
    "and": "&", "to": "2", "for": "4", "between": "btw", "what": "wat", "thanks": "thx", "gigabytes": "gb",
}  # fmt: skip
_SHORT_RE = re.compile(r"\b(" + "|".join(sorted(SHORT, key=len, reverse=True)) + r")\b", re.I)
LIGHT = frozenset(re.findall(r"\w+", "a an the is are do does i my of to in it that this for on with me be can you"))
KEY_ROWS = ["qwertyuiop", "asdfghjkl", "zxcvbnm"]


def bare(text: str) -> str:
    return text.strip().rstrip("?!. ").strip()


def reframe(text: str, rng: Random) -> str:
    for pattern, frames in FRAMES:
        if match := pattern.match(text):
            return rng.choice(frames).format(*(g.strip() for g in match.groups()), whole=text[0].lower() + text[1:])
    return text


def reword(text: str, rng: Random, chance: float) -> str:
    def other(match: re.Match[str]) -> str:
        return rng.choice(_SAME[match.group(1).lower()]) if rng.random() < chance else match.group(1)

    return _SAME_RE.sub(other, text)


def slip(text: str, rng: Random) -> str:
    """One wrong key in one of the longer words."""
    spots = list(re.finditer(r"[A-Za-z]{4,}", text))
    if not spots:
        return text
    spot = rng.choice(spots)
    at = rng.randrange(spot.start() + (rng.random() < 0.8), spot.end() - 1)
    kind = rng.randrange(5)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 2:
        return text[:at] + text[at] + text[at:]
    near = beside(text[at].lower(), rng)
    return text[:at] + near + text[at + (kind == 3) :]


def beside(letter: str, rng: Random) -> str:
    row = next(r for r in KEY_ROWS if letter in r)
    at = row.index(letter) + rng.choice([-1, 1])
    return row[at] if 0 <= at < len(row) else row[row.index(letter) - 1]


def thin(text: str, rng: Random) -> str:
    """Leaves out light words, as in a search box."""
    kept = [w for w in text.split() if w.lower() not in LIGHT or rng.random() < 0.3]
    return " ".join(kept) if len(kept) >= 2 else text


def lose_word(text: str, rng: Random) -> str:
    parts = text.split()
    if len(parts) < 6:
        return text
    del parts[rng.randrange(len(parts))]
    return " ".join(parts)


def without_hint(text: str, rng: Random) -> str:
    """A canonical question may name its key in brackets, which people do not type."""
    return re.sub(r" ?\([^)]*\)", "", text) if rng.random() < 0.7 else text


def recase(text: str, rng: Random) -> str:
    draw = rng.random()
    if draw < 0.45:
        return text.lower()
    if draw < 0.46:
        return text.upper()
    return text[:1].upper() + text[1:] if draw < 0.85 else text


def close(text: str, rng: Random) -> str:
    return text + rng.choices(["?", "", ".", "??", " ?", "!", "?!", "..."], [50, 36, 4, 3, 3, 2, 1, 1])[0]


def augment(wording: str, rng: Random, strength: float = 1.0, in_domain: bool = True) -> str:
    """``strength`` scales the odds of every change; 0 leaves the wording as it is."""
    if rng.random() < 0.12 * (2 - strength) or strength == 0:
        return wording

    def chance(p: float) -> bool:
        return rng.random() < p * strength

    text = without_hint(bare(wording), rng) if in_domain else bare(wording)
    if chance(0.45):
        text = reframe(text, rng)
    if in_domain and chance(0.5):
        text = reword(text, rng, 0.5)
    if chance(0.15):
        text = thin(text, rng)
    if chance(0.08):
        text = lose_word(text, rng)
    if chance(0.1):
        text = _SHORT_RE.sub(lambda m: SHORT[m.group(1).lower()] if rng.random() < 0.5 else m.group(1), text)
    if chance(0.22):
        text = rng.choice(BEFORE) + " " + (text[:1].lower() + text[1:] if text[1:2].islower() else text)
    if chance(0.16):
        text = text + rng.choice([" ", " ", ", "]) + rng.choice(AFTER)
    text = close(recase(text, rng), rng)
    if chance(0.04):
        text = f"{rng.choice(ASIDE)} {text}" if rng.random() < 0.7 else f"{text} {rng.choice(ASIDE)}"
    while chance(0.2):
        text = slip(text, rng)
    return text


_SYLLABLES = re.findall(
    r"\w+", "bla dor fin gra hu jo ka lim mor nu pel qui ras sto tru va wex yor zan che ti bro so le po"
)


def nonsense(rng: Random) -> str:
    """A question about a thing that does not exist: a plain frame alone must not be taken for knowledge."""
    thing = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))
    frame = rng.choice(["what is {0}", "what is a {0}", "how do I {0}", "how do I {0} a {1}", "explain {0}",
                        "what does {0} mean", "why is {0} so {1}", "is {0} better than {1}", "who is {0}",
                        "where is {0}", "what is the {0} of {1}", "can I {0}", "{0} vs {1}", "{0}"])  # fmt: skip
    other = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))
    return frame.format(thing, other)
