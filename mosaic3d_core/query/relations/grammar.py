"""From a phrase to things and relations: "the lamp on the table near the window".

The grammar (words: ``words.py``; what decides between a relation and an ordinary phrase: docs/query.md)::

    query    = [order] thing { relation things } { "and" [relation things] }
    order    = [ordinal] superlative              "nearest", "second largest", "leftmost"
    relation = ["not"] phrase                     "near", "on the", "to the left of", ...
    things   = query | query "and" query          two for "between"

A relation after a relation belongs to the thing named last ("the lamp on (the table near the window)"); one after "and" belongs
to the first thing ("the lamp on the table and near the window"). The parser knows words only, it never fails: what is no
relation is an ordinary phrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mosaic3d_core.query.relations import words
from mosaic3d_core.query.relations.words import BY_DISTANCE, Order, Relation

#: Longer texts are descriptions; the limit also bounds the recursion.
MAX_WORDS = 100

# Words that may stand between a thing and its relation: "the chair that is not standing near ..."
_LINKS = words.POSTURES | {"not", "is", "are", "that", "which"}
# Words at which an anchor's noun ends
_ENDS = frozenset({"and", "but", "to", "from", "not"}) | words.POSTURES | {"that", "which"}
_TOKEN = re.compile(r'"([^"]*)"|“([^”]*)”|(\S+)')


@dataclass(frozen=True)
class Thing:
    """Something that is looked for.

    Attributes:
        noun: Words for the query engine; "" for anything, and for the viewer.
        clauses: Relations that all must hold.
        ordering: Which one of several, or None.
        is_viewer: "me": the place of the viewpoint, no object.
    """

    noun: str
    clauses: tuple[Clause, ...] = ()
    ordering: Ordering | None = None
    is_viewer: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is a description without relation or order."""
        return bool(self.noun) and not self.clauses and self.ordering is None

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return "me" if self.is_viewer else self.noun or "anything"

    def describe(self) -> str:
        """How it was understood, with brackets: ``lamp [on (table [near (window)])]``."""
        text = " ".join([self.name, *(clause.describe() for clause in self.clauses)])
        return text if self.ordering is None else f"{self.ordering.describe()}: {text}"

    def walk(self) -> Iterator[Thing]:
        """The thing and all things that it is related to."""
        yield self
        for clause in self.clauses:
            for anchor in clause.anchors:
                yield from anchor.walk()
        if self.ordering is not None and self.ordering.anchor is not None:
            yield from self.ordering.anchor.walk()


@dataclass(frozen=True)
class Clause:
    """A relation to one anchor, or to two for ``BETWEEN`` (one stands for two of the same kind: "between the chairs")."""

    relation: Relation
    anchors: tuple[Thing, ...]
    negated: bool = False

    def describe(self) -> str:
        """See :meth:`Thing.describe`."""
        anchors = " and ".join(f"({anchor.describe()})" for anchor in self.anchors)
        return f"[{'not ' if self.negated else ''}{self.relation.value} {anchors}]"


@dataclass(frozen=True)
class Ordering:
    """The ``position``-th (from 1) in an order; ``anchor`` for orders by distance."""

    order: Order
    position: int = 1
    anchor: Thing | None = None

    def describe(self) -> str:
        """See :meth:`Thing.describe`."""
        which = "" if self.position == 1 else f"number {self.position} of "
        return f"{which}{self.order.value}" + (f" ({self.anchor.describe()})" if self.anchor is not None else "")


@dataclass(frozen=True)
class _Token:
    text: str  # as written, without quotes
    key: str  # for comparisons; "" for what was quoted
    quoted: bool = False


_Tokens = Sequence[_Token]
VIEWER = Thing("", is_viewer=True)


def parse(text: str) -> Thing:
    """Understand one text.

    Args:
        text: What a person asks for.

    Returns:
        The thing. Without a relation in the text, it is plain and its noun is the text with single spaces and without quotes.
    """
    tokens = _tokens(text)
    plain = Thing(" ".join(token.text for token in tokens) or " ".join(text.split()))
    if not tokens or len(tokens) > MAX_WORDS:
        return plain
    readings: list[_Tokens] = [tokens]
    for lead, noun in words.LEAD_INS:
        if tuple(token.key for token in tokens[: len(lead)]) == lead:
            readings += [tokens[len(lead) :], [*_tokens(noun), *tokens[len(lead) :]]]
    # the longest lead-in that leaves a relation; "where is" is no part of the thing
    for reading in reversed(readings):
        found = _query(reading)
        if found is not None and (found.clauses or found.ordering is not None):
            return found
    return plain


def _tokens(text: str) -> list[_Token]:
    found = []
    for straight, curly, word in _TOKEN.findall(text):
        quoted = " ".join((straight or curly).split())
        if quoted:
            found.append(_Token(quoted, "", quoted=True))
        elif word:
            found.append(_Token(word, word.casefold().strip(",.;:!?")))
    return found


def _query(tokens: _Tokens) -> Thing | None:
    """A thing with its order and relations; None where there is no noun."""
    tokens = _without_determiners(tokens)
    if len(tokens) == 1 and tokens[0].key in words.VIEWERS:
        return VIEWER
    first, more = _conjuncts(tokens)
    found = _ordered(first) or _related(first)
    clauses = [_clause(relation, part, negated) for relation, part, negated in more]
    if found is None or None in clauses:
        return None
    return replace(found, clauses=(*found.clauses, *(clause for clause in clauses if clause is not None)))


def _ordered(tokens: _Tokens) -> Thing | None:
    """What begins with a superlative, or counts "from the left"; None for anything else."""
    position = words.ORDINALS.get(tokens[0].key, 0) if tokens else 0
    rest = tokens[1:] if position else tokens
    if position and len(rest) > 3 and [t.key for t in rest[-3:-1]] == ["from", "the"] and rest[-1].key in ("left", "right"):
        order = Order.LEFTMOST if rest[-1].key == "left" else Order.RIGHTMOST
        return _with_order(_related(rest[:-3]), Ordering(order, position))
    order_of = words.SUPERLATIVES.get(rest[0].key) if rest else None
    if order_of is None:
        return None
    rest, position = rest[1:], position or 1
    if order_of not in BY_DISTANCE:
        return _with_order(_related(rest), Ordering(order_of, position))
    if rest and rest[0].key in words.VIEWERS:
        rest = [_Token("to", "to"), *rest]
    for at, token in enumerate(rest):
        if token.key in ("to", "from") and not _inside_phrase(rest, at) and _is_anchor(rest[at + 1 :], weak=True):
            head = _related(rest[:at]) if at else Thing("")
            return _with_order(head, Ordering(order_of, position, _query(rest[at + 1 :])))
    return _with_order(_related(rest), Ordering(order_of, position, VIEWER))


def _with_order(thing: Thing | None, ordering: Ordering) -> Thing | None:
    if thing is None or thing.is_viewer or thing.ordering is not None:
        return None
    return replace(thing, ordering=ordering)


def _related(tokens: _Tokens) -> Thing | None:
    """A noun, and what it is related to; None where there is no noun."""
    tokens = _without_determiners(tokens)
    for at in range(len(tokens)):
        order = words.SUPERLATIVES.get(tokens[at].key)
        if at and order in BY_DISTANCE and order is not None:  # "chair nearest to the door"
            skip = 2 if [token.key for token in tokens[at + 1 : at + 2]] in (["to"], ["from"]) else 1
            anchor = tokens[at + skip :]
            if _is_anchor(anchor) and (skip == 2 or anchor[0].key in words.VIEWERS):
                return _with_order(_noun(_head(tokens[:at])[0]), Ordering(order, 1, _query(anchor)))
        match = _phrase_at(tokens, at)
        if match is None or not _splits(tokens[:at], match[0], tokens[at + match[1] :]):
            continue
        head, negated = _head(tokens[:at])
        thing = _noun(head) if head else Thing("")
        clause = _clause(words.PHRASES[match[0]], tokens[at + match[1] :], negated)
        return None if thing is None or clause is None else replace(thing, clauses=(clause,))
    return _noun(tokens)


def _clause(relation: Relation, tokens: _Tokens, negated: bool) -> Clause | None:
    if relation is Relation.BETWEEN:
        at = next((k for k, token in enumerate(tokens) if token.key == "and"), None)
        if at is not None:
            pair = _query(tokens[:at]), _query(tokens[at + 1 :])
            return None if pair[0] is None or pair[1] is None else Clause(relation, (pair[0], pair[1]), negated)
    anchor = _query(tokens)
    return None if anchor is None else Clause(relation, (anchor,), negated)


def _noun(tokens: _Tokens) -> Thing | None:
    tokens = _without_determiners(tokens)
    if len(tokens) == 1 and tokens[0].key in words.ANYTHING:
        return Thing("")
    text = " ".join(token.text if token.quoted else token.text.strip(",;:!?") for token in tokens).strip()
    return Thing(text.rstrip(".")) if any(character.isalnum() for character in text) else None


def _head(tokens: _Tokens) -> tuple[_Tokens, bool]:
    """What stands before a relation, without linking words, and whether they deny it."""
    end, negated = len(tokens), False
    while end and tokens[end - 1].key in _LINKS:
        negated |= tokens[end - 1].key == "not"
        end -= 1
    return _without_determiners(tokens[:end]), negated


def _conjuncts(tokens: _Tokens) -> tuple[_Tokens, list[tuple[Relation, _Tokens, bool]]]:
    """The first part, and (relation, anchor, negated) for each "and [not] relation" after it."""
    cuts: list[tuple[int, int, Relation, bool]] = []
    for at in range(1, len(tokens)):
        if tokens[at].key in ("and", "but"):
            start = at + 1
            while start < len(tokens) and tokens[start].key in _LINKS:
                start += 1
            match = _phrase_at(tokens, start)
            if match is not None and _is_anchor(tokens[start + match[1] :], weak=match[0] in words.WEAK_PHRASES):
                negated = any(token.key == "not" for token in tokens[at + 1 : start])
                cuts.append((at, start + match[1], words.PHRASES[match[0]], negated))
    ends = [cut[0] for cut in cuts[1:]] + [len(tokens)]
    parts = [(relation, tokens[start:end], negated) for (_, start, relation, negated), end in zip(cuts, ends)]
    return tokens[: cuts[0][0]] if cuts else tokens, parts


def _phrase_at(tokens: _Tokens, at: int) -> tuple[tuple[str, ...], int] | None:
    """The longest phrase of a relation that begins here, and its length."""
    for length in range(words.LONGEST_PHRASE, 0, -1):
        key = tuple(token.key for token in tokens[at : at + length])
        if len(key) == length and key in words.PHRASES:
            return key, length
    return None


def _inside_phrase(tokens: _Tokens, at: int) -> bool:
    """Whether the word belongs to a phrase ("next to", "to the left of")."""
    for start in range(max(0, at - words.LONGEST_PHRASE + 1), at + 1):
        match = _phrase_at(tokens, start)
        if match is not None and start + match[1] > at:
            return True
    return False


def _splits(before: _Tokens, phrase: tuple[str, ...], after: _Tokens) -> bool:
    """The rule that decides whether a phrase is a relation here."""
    weak = phrase in words.WEAK_PHRASES
    head, _ = _head(before)
    if not head:
        return phrase != ("over",) and _is_anchor(after, weak=weak, determined=True)
    # "something to sit on ...": the preposition belongs to the verb
    if weak and any(token.key == "to" for token in head):
        return False
    return _is_anchor(after, weak=weak)


def _is_anchor(tokens: _Tokens, weak: bool = False, determined: bool = False) -> bool:
    """Whether words name something that a thing can be related to.

    Args:
        tokens: What follows the phrase.
        weak: The phrase has other uses: there must be a determiner or a noun of the built-in vocabulary.
        determined: There must be a determiner.
    """
    rest = _without_determiners(tokens)
    if not rest:
        return False
    if rest[0].quoted or rest[0].key in words.VIEWERS or rest[0].key in words.SUPERLATIVES:
        return True
    end = 0
    while end < len(rest) and rest[end].key not in _ENDS and _phrase_at(rest, end) is None:
        end += 1
    keys = [token.key for token in rest[:end]]
    if not any(any(character.isalnum() for character in token.text) for token in rest[:end]):
        return False
    noun = keys[keys.index("of") - 1] if "of" in keys[1:] else keys[-1]
    if noun in words.PLACES:
        return False
    has_determiner = len(rest) < len(tokens)
    return has_determiner or not (determined or (weak and not (words.is_known_noun(noun) or words.is_known_noun(keys[-1]))))


def _without_determiners(tokens: _Tokens) -> _Tokens:
    start = 0
    while start < len(tokens) and tokens[start].key in words.DETERMINERS:
        start += 1
    return tokens[start:]
