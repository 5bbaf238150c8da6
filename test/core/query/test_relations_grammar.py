"""What texts are understood as: relations where there are some, ordinary phrases everywhere else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.data.synthetic.classes import CLASSES
from mosaic3d_core.query.relations import words
from mosaic3d_core.query.relations.grammar import VIEWER, Clause, Ordering, Thing, parse
from mosaic3d_core.query.relations.words import Order, Relation
from mosaic3d_core.query.vocabulary import CONCEPTS

PLAIN = (
    """
side of the room|something to sit on|picture on canvas|in-ear headphones|bottle of water|man in black|chair on wheels
under desk storage|over the door hooks|the left side of the bed|something to write on the wall with|step by step|near|nearest
largest|walk-in closet|built-in oven|on-screen display|picture on the side of the fridge|chair in the corner|towel in the kitchen
chair near the kitchen|above ground pool|light on|chair not|where is the chair|second chair|left arm of the sofa|side table
top shelf|the person in charge|a place to sleep|oil on canvas|left-handed scissors|something to rest your head on|tallest
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

UNDERSTOOD = {
    "clock on the wall": "clock [on (wall)]",
    "clock on wall": "clock [on (wall)]",
    "chair near the window": "chair [near (window)]",
    "on the table": "anything [on (table)]",
    "left of the table": "anything [left of (table)]",
    "the chair to the left of the desk": "chair [left of (desk)]",
    "lamp on the right side of the bed": "lamp [right of (bed)]",
    "nearest to me": "nearest to (me): anything",
    "nearest chair": "nearest to (me): chair",
    "nearest chair to the door": "nearest to (door): chair",
    "chair closest to the door": "nearest to (door): chair",
    "farthest chair from the window": "farthest from (window): chair",
    "second largest chair": "number 2 of largest: chair",
    "second chair from the left": "number 2 of leftmost: chair",
    "the lamp on the table near the window": "lamp [on (table [near (window)])]",
    "the lamp on the table and near the window": "lamp [on (table)] [near (window)]",
    "lamp on the table but not near the window": "lamp [on (table)] [not near (window)]",
    "chair not near a window": "chair [not near (window)]",
    "chair that is not standing near a window": "chair [not near (window)]",
    "lamp between the sofa and the table": "lamp [between (sofa) and (table)]",
    "chair between the windows": "chair [between (windows)]",
    "something to sit on near the window": "something to sit on [near (window)]",
    "nearest place to sit to the door": "nearest to (door): place to sit",
    "chair in the corner near the window": "chair in the corner [near (window)]",
    "chair near me and left of the sofa": "chair [near (me)] [left of (sofa)]",
    "what is on the table": "anything [on (table)]",
    "where is the cup next to the laptop?": "cup [beside (laptop)]",
    "person sitting on the sofa": "person [on (sofa)]",
    "chair away from the wall": "chair [far from (wall)]",
    "cup on top of the fridge": "cup [on (fridge)]",
    "nearest thing to the nearest door": "nearest to (nearest to (me): door): anything",
    "Chair NEAR The Window.": "Chair [near (Window)]",
    "largest thing on the table": "largest: anything [on (table)]",
}


@pytest.mark.parametrize("text", PLAIN)
def test_an_ordinary_phrase_stays_as_it_is(text):
    assert parse(text) == Thing(text)


@pytest.mark.parametrize(("text", "meaning"), UNDERSTOOD.items())
def test_a_relation_is_understood(text, meaning):
    assert parse(text).describe() == meaning


def test_words_of_the_vocabulary_are_ordinary_phrases():
    for text in [name for pair in CONCEPTS.items() for name in (pair[0], *pair[1])]:
        assert parse(text) == Thing(text)


def test_phrases_of_the_generated_rooms_hold_relations_only_where_they_say_so():
    texts = {text for one in CLASSES for text in (one.name, *one.synonyms, *one.uses, *one.held_out)}
    assert [text for text in texts if not parse(text).is_plain] == ["art on the wall"]


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ('"clock on the wall"', "clock on the wall"),
        ("“clock on the wall”", "clock on the wall"),
        ('"nearest" chair', "nearest chair"),
        ('red "in front of" sign', "red in front of sign"),
    ],
)
def test_quotes_keep_words_from_being_relations(text, noun):
    assert parse(text) == Thing(noun)


def test_quotes_keep_a_noun_whole_within_a_relation():
    thing = parse('"picture on the wall" near the "left of centre" sign')
    assert thing.noun == "picture on the wall"
    assert thing.clauses[0].anchors[0].noun == "left of centre sign"


def test_every_phrase_of_every_relation_is_understood():
    for phrase, relation in {**words.STRONG, **words.WEAK}.items():
        anchors = "the door and the bed" if relation is Relation.BETWEEN else "the door"
        thing = parse(f"chair {phrase} {anchors}")
        assert [clause.relation for clause in thing.clauses] == [relation], phrase


# Sentences of known meaning --------------------------------------------------------------------------------

NOUNS = st.sampled_from(["chair", "red lamp", "potted plant", "desk", "thing"])
PHRASE_OF = {relation: [p for p, r in {**words.STRONG, **words.WEAK}.items() if r is relation] for relation in Relation}


@st.composite
def sentences(draw, depth=2):
    """A sentence and what it means."""
    noun = draw(NOUNS)
    bare = Thing("" if noun == "thing" else noun)
    if depth == 0 or not draw(st.booleans()):
        return f"the {noun}", bare
    relation = draw(st.sampled_from(Relation))
    phrase = draw(st.sampled_from(PHRASE_OF[relation]))
    text, anchor = draw(sentences(depth=depth - 1))
    negated = draw(st.booleans())
    anchors = (anchor,)
    if relation is Relation.BETWEEN:
        other, second = draw(sentences(depth=0))
        text, anchors = f"{other} and {text}", (second, anchor)
    return f"the {noun} {'not ' if negated else ''}{phrase} {text}", Thing(bare.noun, (Clause(relation, anchors, negated),))


@given(sentences(), st.sampled_from([None, *Order]), st.sampled_from([(1, ""), (2, "second "), (3, "3rd ")]))
def test_a_sentence_means_what_it_was_made_from(sentence, order, which):
    text, thing = sentence
    if order is not None:
        word = next(word for word, one in words.SUPERLATIVES.items() if one is order)
        text = f"the {which[1]}{word} {text.removeprefix('the ')}"
        anchor = VIEWER if order in words.BY_DISTANCE else None
        thing = Thing(thing.noun, thing.clauses, Ordering(order, which[0], anchor))
    elif thing == Thing(""):
        return  # "the thing" alone is a description
    assert parse(text) == (thing if not thing.is_plain else Thing(text))


@given(sentences(depth=1), st.sampled_from(["near the door", "not on the rug", "left of me"]))
def test_what_comes_after_and_belongs_to_the_first_thing(sentence, more):
    text, thing = sentence
    if thing.clauses:
        found = parse(f"{text} and {more}")
        assert found.clauses[:-1] == thing.clauses
        assert found.clauses[-1] == parse(f"chair {more}").clauses[0]


PIECES = [*words.STRONG, *words.WEAK, *words.SUPERLATIVES, *words.DETERMINERS, *words.PLACES, "not", "and", "to", "from", "me",
          "chair", "second", '"', "“", "that", "is", ",", "?", "of", "find", "what is", ""]  # fmt: skip


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join)))
def test_no_text_is_an_error_and_nothing_is_lost_from_plain_ones(text):
    thing = parse(text)
    assert parse(text) == thing
    assert thing.describe() is not None
    if thing.is_plain and not set(text) & set('"“”'):
        assert thing.noun == " ".join(text.split())
    for one in thing.walk():
        assert one.noun or one.is_viewer or one.name == "anything"
        assert one.noun == one.noun.strip()


def test_a_text_of_very_many_words_is_a_description():
    text = "lamp " + "on the table near the window " * 3000
    assert parse(text).is_plain
