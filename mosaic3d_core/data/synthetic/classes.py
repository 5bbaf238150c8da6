"""The object classes of the synthetic rooms and the words people use for them.

`synonyms` and `uses` feed the training captions. `held_out` phrases never appear in a caption: they are asked only in
evaluation, so that the scores separate words the encoder was shown from words it reaches through the text encoder alone.
`also` names the broader classes that an instance also counts as (an office chair is a chair).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ObjectClass:
    """One class of the synthetic rooms.

    Attributes:
        name: The canonical name, used as segment name and for "asked by name".
        synonyms: Other names, used in captions.
        uses: What one does with it, used in captions.
        held_out: Phrases for evaluation only.
        also: Broader class names an instance of this class also satisfies.
        stuff: True for wall, floor and ceiling, which are not counted as foreground.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    stuff: bool = False


CLASSES: Final[tuple[ObjectClass, ...]] = (
    ObjectClass("wall", ("room wall", "painted wall"), (), ("side of the room",), stuff=True),
    ObjectClass("floor", ("ground", "flooring"), ("something to walk on",), ("floorboards",), stuff=True),
    ObjectClass("ceiling", ("room ceiling",), (), ("ceiling of the room",), stuff=True),
    ObjectClass("door", ("doorway", "wooden door"), ("a way out of the room",), ("entrance",)),
    ObjectClass("window", ("glass window", "window pane"), ("something to look outside through",), ("window glass",)),
    ObjectClass("curtain", ("drape", "curtains"), ("something that blocks the sunlight",), ("window drapes",)),
    ObjectClass("picture", ("painting", "framed picture", "poster"), ("art on the wall",), ("artwork",)),
    ObjectClass("radiator", ("heater", "wall radiator"), ("something that warms the room",), ("heating",)),
    ObjectClass("whiteboard", ("white board", "writing board"), ("something to write on in a meeting",), ("dry erase board",)),
    ObjectClass("bed", ("double bed", "single bed"), ("a place to sleep",), ("somewhere to sleep at night",)),
    ObjectClass("pillow", ("cushion",), ("something to rest the head on",), ("throw pillow",)),
    ObjectClass("nightstand", ("bedside table", "night table"), (), ("bedside cabinet",)),
    ObjectClass("wardrobe", ("closet", "armoire"), ("a place to hang clothes",), ("clothes closet",)),
    ObjectClass("sofa", ("couch", "settee"), ("a place to relax with friends",), ("loveseat",)),
    ObjectClass("armchair", ("lounge chair", "sofa chair"), ("a comfortable seat for one",), ("easy chair",), also=("chair",)),
    ObjectClass("chair", ("dining chair", "wooden chair", "seat"), ("something to sit on",), ("kitchen chair",)),
    ObjectClass("office chair", ("desk chair", "swivel chair"), (), ("rolling chair",), also=("chair",)),
    ObjectClass("stool", ("bar stool", "round stool"), (), ("small stool",)),
    ObjectClass("table", ("dining table", "kitchen table"), ("a place to eat",), ("big table",)),
    ObjectClass("coffee table", ("low table", "living room table"), (), ("cocktail table",), also=("table",)),
    ObjectClass("desk", ("work desk", "office desk", "writing desk"), ("a place to work",), ("computer desk",), also=("table",)),
    ObjectClass("bookshelf", ("bookcase", "shelf", "shelves with books"), ("a place to keep books",), ("book shelves",)),
    ObjectClass("cabinet", ("sideboard", "cupboard"), ("a place to store things",), ("storage cabinet",)),
    ObjectClass("tv", ("television", "flat screen tv"), ("something to watch movies on",), ("television set",)),
    ObjectClass("monitor", ("computer monitor", "computer screen"), (), ("computer display",)),
    ObjectClass("lamp", ("floor lamp", "table lamp"), ("something that gives light",), ("reading lamp",)),
    ObjectClass("plant", ("potted plant", "houseplant"), ("something to water",), ("green plant",)),
    ObjectClass("refrigerator", ("fridge", "freezer"), ("a place to keep food cold",), ("fridge freezer",)),
    ObjectClass("stove", ("oven", "cooker"), ("something to cook on",), ("kitchen stove",)),
    ObjectClass("kitchen counter", ("countertop", "counter", "kitchen worktop"), ("a place to prepare food",), ("kitchen unit",)),
    ObjectClass("toilet", ("wc", "lavatory"), (), ("toilet bowl",)),
    ObjectClass("bathtub", ("tub", "bath"), ("a place to take a bath",), ("bath tub",)),
    ObjectClass("washing machine", ("washer", "laundry machine"), ("something to wash clothes with",), ("clothes washer",)),
    ObjectClass("trash can", ("trash bin", "waste basket", "garbage can"), ("a place to throw garbage",), ("rubbish bin",)),
    ObjectClass("rug", ("carpet", "floor mat"), (), ("area rug",)),
    ObjectClass("box", ("cardboard box", "carton"), (), ("moving box",)),
    ObjectClass("suitcase", ("luggage", "travel suitcase"), ("something to pack for a trip",), ("travel bag",)),
    ObjectClass("piano", ("upright piano", "keyboard piano"), ("something to play music on",), ("musical instrument",)),
)

CLASS_NAMES: Final[tuple[str, ...]] = tuple(c.name for c in CLASSES)
CLASS_ID: Final[dict[str, int]] = {name: i for i, name in enumerate(CLASS_NAMES)}
STUFF_IDS: Final[tuple[int, ...]] = tuple(i for i, c in enumerate(CLASSES) if c.stuff)

#: Questions by use: (text, accepted class names). They count as synonyms, not as held out: captions or the query vocabulary
#: hold phrases close to each of them.
USE_QUESTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("something to sit on", ("chair", "office chair", "armchair", "sofa", "stool")),
    ("a place to sit", ("chair", "office chair", "armchair", "sofa", "stool")),
    ("place to sleep", ("bed",)),
    ("somewhere to lie down", ("bed", "sofa")),
    ("where can I cook", ("stove", "kitchen counter")),
    ("where to throw away trash", ("trash can",)),
    ("keep food cold", ("refrigerator",)),
    ("where are the books", ("bookshelf",)),
)

#: Things that no synthetic room contains: an honest system answers "nothing like that here".
NEVER_PRESENT: Final[tuple[str, ...]] = (
    "bicycle",
    "car",
    "dog",
    "person",
    "fire extinguisher",
    "horse",
    "airplane",
    "guitar",
    "swimming pool",
    "tree trunk",
)


def accepted_classes(name: str) -> frozenset[str]:
    """Class names whose instances answer a question for class `name` (itself and every kind of it)."""
    return frozenset({name} | {c.name for c in CLASSES if name in c.also})
