"""Which captions are fit for training: the rules of Mosaic3D's training loader."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class CaptionFilter:
    """Keeps captions that read like descriptions; machine captions sometimes loop or consist of signs.

    Attributes:
        min_words: Fewest words.
        max_words: Most words.
        min_letters: Least share of letters among the characters that are no spaces.
        max_word_share: Largest share of one word, in captions of three words and more.
        max_run: Most times that a word may follow itself, itself included.
        max_phrase: Most times that a phrase of two or three words may occur.
    """

    min_words: int = 1
    max_words: int = 50
    min_letters: float = 0.5
    max_word_share: float = 0.4
    max_run: int = 3
    max_phrase: int = 3

    def reason(self, caption: str) -> str | None:
        """Why a caption is dropped, in a word or two; None if it is kept."""
        words = caption.lower().split()
        if not words:
            return "empty"
        if not self.min_words <= len(words) <= self.max_words:
            return "length"
        signs = "".join(words)
        if sum(c.isalpha() for c in signs) < self.min_letters * len(signs):
            return "not letters"
        if len(words) >= 3 and max(Counter(words).values()) > self.max_word_share * len(words):
            return "one word"
        run = 1
        for before, word in itertools.pairwise(words):
            run = run + 1 if word == before else 1
            if run > self.max_run:
                return "repeated word"
        for size in (2, 3):
            phrases = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
            if phrases and max(phrases.values()) > self.max_phrase:
                return "repeated phrase"
        return None

    def keeps(self, caption: str) -> bool:
        """Whether a caption is fit for training."""
        return self.reason(caption) is None
