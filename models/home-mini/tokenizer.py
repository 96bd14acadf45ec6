"""The tokenizer of home-mini: BPE in the manner of Gemma 4, with 2048 tokens.

Names that nobody has seen must be copied letter for letter: from the home's list, there "Velora", from a sentence that
says "velora", to a call that has it behind a quote, without a space. So a word is cut the same way whatever stands before
it and whatever its first letter is. Merges come in this order

1. a space and the consonant after it: "▁v", "▁V" and "V" are atoms, what follows them is the word's tail. "th" counts as a consonant.
   Before a vowel the space stays alone;
2. common pieces of tails; they begin with a vowel, so that a word's first consonant keeps out of them. Each has a twin
   with a capital, for words that begin with it: "al" and "Al" of "almond";
3. whole fragments of tool declarations and of calls, tool names, and whole words of sentences and answers, but never
   words that name things: those would be one token in the list and others in a sentence. Nor short words and beginnings of
   names: "the" would make "theo" something else than "Theo".

Digits are never merged. `python tokenizer.py` trains it on conversations of its own seed and writes tokenizer.json.
"""

import argparse
import itertools
import json
import re
from collections import Counter
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

import conversations
import render
import shape
import words as pools

SPACE = "▁"
# Text -> GGUF type: 3 control, 4 user defined (shown in text, always matched), as in the published vocabulary.
SPECIALS = {
    "<pad>": 3, "<eos>": 3, "<bos>": 3, "<unk>": 3, "<mask>": 3, "<|tool>": 3, "<tool|>": 3, "<|tool_call>": 4, "<tool_call|>": 4,
    "<|tool_response>": 4, "<tool_response|>": 4, '<|"|>': 4, "<|think|>": 3, "<|channel>": 4, "<channel|>": 4, "<|turn>": 3, "<turn|>": 3,
}
BYTES = [f"<0x{b:02X}>" for b in range(256)]
CHARACTERS = [SPACE, "\n", "\n\n", *map(chr, range(33, 127)), "°", "é", "ä", "ö", "ü", "ß", "€"]
N_TAIL_MERGES = 300
N_STRUCTURE_TOKENS = 380
VOWELS = "aeiou"
# A whole word has at least so many letters.
WHOLE_WORD = 5

Merge = tuple[str, str]


class Bpe:
    """Merges in order, with the plain procedure to apply them."""

    def __init__(self) -> None:
        self.ranks: dict[Merge, int] = {}
        self.tokens: dict[str, None] = dict.fromkeys(CHARACTERS)

    def add(self, left: str, right: str) -> None:
        assert left in self.tokens and right in self.tokens
        self.ranks.setdefault((left, right), len(self.ranks))
        self.tokens.setdefault(left + right)

    def add_tail(self, left: str, right: str) -> None:
        """A merge within words, and its twin for words that begin with a capital there."""
        self.add(left, right)
        self.add(left.capitalize(), right)

    def pieces(self, text: str) -> list[str]:
        parts = list(text)
        while True:
            best = min(zip(parts, parts[1:]), key=lambda pair: self.ranks.get(pair, 1 << 30), default=None)
            if best is None or best not in self.ranks:
                return parts
            i = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == best)
            parts[i : i + 2] = ["".join(best)]

    def make_whole(self, text: str) -> None:
        """Adds merges until the text is one token: first its tail from the left, then the first letter."""
        parts = self.pieces(text)
        while len(parts) > 2:
            self.add(parts[1], parts[2])
            parts = self.pieces(text)
        if len(parts) == 2:
            self.add(*parts)


_WORD = re.compile(f"{SPACE}?(?:[A-Z]{{2,}}|[A-Za-z][a-z]*)|[^A-Za-z]")
_SPECIAL = re.compile("|".join(map(re.escape, SPECIALS)))


def train(n_conversations: int = 6_000, seed: int = 77) -> Bpe:
    words: Counter[str] = Counter()
    fragments: Counter[str] = Counter()
    for case in itertools.islice(conversations.generate(seed), n_conversations):
        for text, _ in render.pieces(case):
            for part in _SPECIAL.split(text):
                part = part.replace(" ", SPACE)
                if re.fullmatch(r"[^▁\n]*[{}\[\]:,][^▁\n]*", part) and not re.search(r"\d", part):
                    fragments[re.sub(r"^(call|response|declaration):\w+", "", part)] += 1
                words.update(w for w in _WORD.findall(part) if len(w) > 1)
    bpe = Bpe()
    for letter in map(chr, itertools.chain(range(97, 123), range(65, 91))):
        if letter.lower() not in VOWELS:
            bpe.add(SPACE, letter)
    for t in (SPACE + "t", SPACE + "T", "t", "T"):
        bpe.add(t, "h")
    _train_tails(bpe, words)
    for name in ["call:", "response:", "declaration:"]:
        bpe.make_whole(name)
    for name in conversations.tools.TOOLS:
        for part in re.findall("[A-Z][a-z]+", name):
            bpe.make_whole(part)
        parts = bpe.pieces(name)
        while len(parts) > 1:
            bpe.add(parts[0], parts[1])
            parts = bpe.pieces(name)
    room = shape.VOCAB - len(SPECIALS) - len(BYTES)
    limit = len(bpe.tokens) + N_STRUCTURE_TOKENS
    _make_whole(bpe, fragments, limit)
    _make_whole(bpe, Counter({word: n for word, n in words.items() if _may_be_whole(word.lstrip(SPACE).lower())}), room)
    assert len(bpe.tokens) <= room, len(bpe.tokens)
    return bpe


def _may_be_whole(word: str) -> bool:
    return len(word) >= WHOLE_WORD and word not in pools.NAMING and not any(name.startswith(word) for name in pools.TRAINED)


def _train_tails(bpe: Bpe, words: Counter[str]) -> None:
    """Plain BPE over what follows the first consonant of words; the left part of a merge begins with a vowel."""
    tails: Counter[str] = Counter()
    for word, n in words.items():
        word = word.lstrip(SPACE).lower()
        tail = re.sub(f"^(th|[^{VOWELS}])", "", word)
        if len(tail) > 1:
            # Roots, so that rare names have a say beside the words of every sentence.
            tails[tail] += int(n**0.5) + 1
    cut = [(bpe.pieces(tail), n) for tail, n in tails.items()]
    for _ in range(N_TAIL_MERGES):
        pairs: Counter[Merge] = Counter()
        for parts, n in cut:
            for left, right in zip(parts, parts[1:]):
                if left[0] in VOWELS and len(left + right) <= 4:
                    pairs[left, right] += n
        best = pairs.most_common(1)[0][0]
        bpe.add_tail(*best)
        for parts, _ in cut:
            for i in range(len(parts) - 2, -1, -1):
                if parts[i : i + 2] == [*best]:
                    parts[i : i + 2] = ["".join(best)]


def _make_whole(bpe: Bpe, texts: Counter[str], limit: int) -> None:
    """Whole tokens for the texts that save most, while the vocabulary has room."""
    candidates = [(n * (len(bpe.pieces(t)) - 1) / (len(bpe.pieces(t)) + 1), t) for t, n in texts.most_common(4000) if n >= 20]
    for _, text in sorted(candidates, reverse=True):
        if len(bpe.tokens) + len(bpe.pieces(text)) - 1 > limit:
            continue
        bpe.make_whole(text)


def tokenizer(bpe: Bpe) -> Tokenizer:
    """The same as a `tokenizers` object. Ids: specials, bytes, characters and merged tokens, filled up with unused ones."""
    texts = [*SPECIALS, *BYTES, *bpe.tokens]
    texts += [f"<unused{i}>" for i in range(shape.VOCAB - len(texts))]
    vocab = {text: i for i, text in enumerate(texts)}
    assert len(vocab) == shape.VOCAB
    made = Tokenizer(models.BPE(vocab=vocab, merges=list(bpe.ranks), byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", SPACE)
    made.pre_tokenizer = pre_tokenizers.Split(Regex("\n+"), "isolated")
    made.add_special_tokens(list(SPECIALS))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tokenizer.json")
    made = tokenizer(train())
    path = parser.parse_args().out
    made.save(str(path), pretty=False)
    n = n_wanted = n_cases = 0
    for case in itertools.islice(conversations.generate(78), 300):
        n_cases += 1
        for text, wanted in render.pieces(case):
            k = len(made.encode(text, add_special_tokens=False).ids)
            n += k
            n_wanted += k * wanted
    print(json.dumps({"tokens_per_conversation": n / n_cases, "wanted": n_wanted / n}))


if __name__ == "__main__":
    main()
