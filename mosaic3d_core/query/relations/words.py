"""The words of the grammar: which phrases name a relation, an order, a place that is no object."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from mosaic3d_core.query.vocabulary import CONCEPTS


class Relation(str, Enum):
    """A spatial relation between a thing and its anchor (two anchors for ``BETWEEN``)."""

    NEAR = "near"
    BESIDE = "beside"
    FAR = "far from"
    ON = "on"
    UNDER = "under"
    ABOVE = "above"
    IN = "in"
    AGAINST = "against"
    BETWEEN = "between"
    LEFT = "left of"
    RIGHT = "right of"
    FRONT = "in front of"
    BEHIND = "behind"


#: Relations that depend on where one stands.
DIRECTIONS = frozenset({Relation.LEFT, Relation.RIGHT, Relation.FRONT, Relation.BEHIND})

#: Relations that have a meaning with a place ("me") for an anchor.
OF_PLACES = DIRECTIONS | {Relation.NEAR, Relation.BESIDE, Relation.FAR, Relation.BETWEEN}


class Order(str, Enum):
    """What a superlative sorts by; the first in that order is the answer."""

    NEAREST = "nearest to"
    FARTHEST = "farthest from"
    LARGEST = "largest"
    SMALLEST = "smallest"
    TALLEST = "tallest"
    HIGHEST = "highest"
    LOWEST = "lowest"
    LEFTMOST = "leftmost"
    RIGHTMOST = "rightmost"


#: Orders that measure the distance to an anchor.
BY_DISTANCE = frozenset({Order.NEAREST, Order.FARTHEST})

#: Phrases that are a relation wherever there is a thing on both sides.
STRONG: Mapping[str, Relation] = MappingProxyType(
    {
        "near": Relation.NEAR,
        "near to": Relation.NEAR,
        "close to": Relation.NEAR,
        "next to": Relation.BESIDE,
        "beside": Relation.BESIDE,
        "alongside": Relation.BESIDE,
        "adjacent to": Relation.BESIDE,
        "far from": Relation.FAR,
        "far away from": Relation.FAR,
        "away from": Relation.FAR,
        "on top of": Relation.ON,
        "on the top of": Relation.ON,
        "underneath": Relation.UNDER,
        "beneath": Relation.UNDER,
        "below": Relation.UNDER,
        "above": Relation.ABOVE,
        "inside": Relation.IN,
        "inside of": Relation.IN,
        "between": Relation.BETWEEN,
        "in between": Relation.BETWEEN,
        "left of": Relation.LEFT,
        "to the left of": Relation.LEFT,
        "on the left of": Relation.LEFT,
        "on the left side of": Relation.LEFT,
        "right of": Relation.RIGHT,
        "to the right of": Relation.RIGHT,
        "on the right of": Relation.RIGHT,
        "on the right side of": Relation.RIGHT,
        "in front of": Relation.FRONT,
        "behind": Relation.BEHIND,
    }
)

#: Short prepositions with many other uses: a relation only before a determiner or a built-in noun.
WEAK: Mapping[str, Relation] = MappingProxyType(
    {
        "on": Relation.ON,
        "in": Relation.IN,
        "under": Relation.UNDER,
        "over": Relation.ABOVE,
        "by": Relation.NEAR,
        "against": Relation.AGAINST,
    }
)

#: All phrases by their words.
PHRASES: Mapping[tuple[str, ...], Relation] = MappingProxyType(
    {tuple(phrase.split()): relation for table in (STRONG, WEAK) for phrase, relation in table.items()}
)
WEAK_PHRASES = frozenset(tuple(phrase.split()) for phrase in WEAK)
LONGEST_PHRASE = max(len(phrase) for phrase in PHRASES)

SUPERLATIVES: Mapping[str, Order] = MappingProxyType(
    {
        "nearest": Order.NEAREST,
        "closest": Order.NEAREST,
        "farthest": Order.FARTHEST,
        "furthest": Order.FARTHEST,
        "largest": Order.LARGEST,
        "biggest": Order.LARGEST,
        "smallest": Order.SMALLEST,
        "tallest": Order.TALLEST,
        "highest": Order.HIGHEST,
        "lowest": Order.LOWEST,
        "leftmost": Order.LEFTMOST,
        "rightmost": Order.RIGHTMOST,
    }
)
ORDINALS: Mapping[str, int] = MappingProxyType(
    {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "5th": 5}
)

DETERMINERS = frozenset(
    {"the", "a", "an", "this", "that", "these", "those", "my", "your", "our", "his", "her", "its", "their"}
    | {"any", "some", "each", "every", "another"}
)
#: The one who asks, or the robot that is asked: the viewpoint.
VIEWERS = frozenset({"me", "myself", "you"})
#: Stands for every instance of the map but the surfaces of the room.
ANYTHING = frozenset(["anything", "something", "everything", "thing", "things", "object", "objects", "stuff"])
#: Of "anything", what the room itself is made of is no answer.
SURFACES = ("floor", "wall", "ceiling")
#: Before a relation, these only say how a thing is there.
POSTURES = frozenset(["standing", "lying", "sitting", "hanging", "leaning", "placed", "located", "mounted"])
#: Parts of a thing and rooms: where they are the anchor, the phrase is an ordinary description.
PLACES = frozenset(
    {"left", "right", "top", "bottom", "middle", "centre", "center", "corner", "side", "back", "front", "end", "edge"}
    | {"background", "foreground", "inside", "outside", "room", "bedroom", "bathroom", "kitchen", "hall", "hallway"}
    | {"corridor", "office", "house", "home", "apartment", "flat", "building", "scene", "map", "world", "way"}
    | {"general", "use", "place", "order"}
)
#: Said before a question; dropped when a relation follows.
LEAD_INS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("where", "is"), ""),
    (("where", "are"), ""),
    (("where's",), ""),
    (("find",), ""),
    (("what", "is"), "anything"),
    (("what's",), "anything"),
)


# Single words of the vocabulary with common other meanings after "on" and "in".
_AMBIGUOUS = frozenset(["light", "range", "display", "package", "carton", "seat", "art"])


def _known_nouns() -> frozenset[str]:
    nouns = {name.split()[-1] for name in CONCEPTS}  # the last word is the noun ("office chair")
    nouns.update(word for synonyms in CONCEPTS.values() for word in synonyms if " " not in word)
    return frozenset(nouns - PLACES - ANYTHING - _AMBIGUOUS)


_KNOWN_NOUNS = _known_nouns()


def is_known_noun(word: str) -> bool:
    """Whether a word (lower case) is a noun of the built-in vocabulary, singular or regular plural."""
    candidates = {word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ves") + "f"}
    return not _KNOWN_NOUNS.isdisjoint(candidates)
