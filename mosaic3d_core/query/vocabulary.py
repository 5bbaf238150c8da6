"""What an indoor scene may contain: the default vocabulary, its everyday synonyms, and background words.

A score is only meaningful against alternatives. The concepts here are those alternatives: for the query
"couch" the voxels of a table compete with "table". Their synonyms and uses ("something to sit on") tell which
concepts a query *means*, so that those do not compete with it. The lists are data; nothing else in the
package depends on a particular entry. Phrases kept for evaluation by the synthetic rooms (`held_out`) stay
out of them, so that scores on those phrases measure the encoders.
"""

from __future__ import annotations

# name: other words and uses for the same thing. Several concepts may share a use.
CONCEPTS: dict[str, tuple[str, ...]] = {
    "wall": ("room wall",),
    "floor": ("ground", "something to walk on"),
    "ceiling": ("roof of the room",),
    "door": ("doorway", "way out of the room", "exit"),
    "window": ("window pane", "something to look outside through"),
    "curtain": ("drapes", "window covering"),
    "blinds": ("window blinds", "window shades", "window covering"),
    "picture": ("painting", "poster", "framed art", "wall decoration"),
    "bed": ("place to sleep", "something to lie down on", "mattress", "somewhere to take a nap"),
    "nightstand": ("bedside table", "night table"),
    "wardrobe": ("closet", "armoire", "place to hang clothes", "storage for clothes"),
    "dresser": ("chest of drawers", "drawers", "storage for clothes"),
    "sofa": ("couch", "settee", "something to sit on", "place to sit", "seat", "place to relax"),
    "armchair": ("lounge chair", "comfortable chair", "something to sit on", "place to sit", "seat"),
    "chair": ("dining chair", "wooden chair", "something to sit on", "place to sit", "seat"),
    "office chair": ("swivel chair", "desk chair", "something to sit on", "place to sit", "seat"),
    "stool": ("bar stool", "something to sit on", "place to sit", "seat"),
    "bench": ("wooden bench", "something to sit on", "place to sit"),
    "ottoman": ("footstool", "pouf", "something to rest feet on"),
    "table": ("dining table", "kitchen table", "place to eat", "somewhere to have dinner"),
    "coffee table": ("low table", "table", "place to put a cup"),
    "side table": ("end table", "table"),
    "desk": (
        "writing desk",
        "work table",
        "place to work",
        "workstation",
        "somewhere to study",
        "place to write",
    ),
    "bookshelf": ("bookcase", "storage for books", "place to keep books"),
    "shelf": ("shelving unit", "shelves", "rack"),
    "cabinet": ("cupboard", "sideboard", "place to store things", "tv stand", "media console", "television stand"),
    "kitchen counter": ("countertop", "worktop", "place to prepare food"),
    "kitchen cabinet": ("kitchen cupboard",),
    "sink": ("wash basin", "kitchen sink", "place to wash hands", "somewhere to wash dishes"),
    "stove": ("cooker", "oven", "range", "something to cook on", "place to cook"),
    "microwave": ("microwave oven", "something to heat food in"),
    "refrigerator": ("fridge", "freezer", "place to keep food cold"),
    "dishwasher": ("dish washing machine",),
    "washing machine": ("washer", "laundry machine", "something to wash clothes in"),
    "toilet": ("lavatory", "loo", "wc", "commode"),
    "bathtub": ("bath", "tub", "place to take a bath"),
    "shower": ("shower cabin", "place to take a shower"),
    "tv": ("television", "tv screen", "flat screen", "something to watch movies on"),
    "monitor": ("computer screen", "computer monitor", "display"),
    "laptop": ("notebook computer", "portable computer"),
    "computer": ("desktop computer", "pc"),
    "keyboard": ("computer keyboard",),
    "lamp": ("floor lamp", "desk lamp", "light", "light source", "something that gives light"),
    "plant": ("potted plant", "houseplant", "flower pot", "indoor plant", "something to water"),
    "vase": ("flower vase",),
    "trash can": ("garbage can", "waste bin", "wastebasket", "bin", "place to throw away trash"),
    "rug": ("carpet", "mat", "floor covering"),
    "pillow": ("cushion", "something to rest your head on"),
    "blanket": ("duvet", "bed cover"),
    "box": ("cardboard box", "carton", "package"),
    "basket": ("laundry basket", "hamper"),
    "radiator": ("heater", "something that heats the room"),
    "mirror": ("looking glass", "something to see yourself in"),
    "fireplace": ("hearth",),
    "piano": ("upright piano", "something to play music on"),
    "backpack": ("rucksack", "school bag"),
    "suitcase": ("luggage", "something to pack for a trip"),
    "shoe": ("shoes", "footwear"),
    "whiteboard": ("blackboard", "something to write on the wall with"),
    "printer": ("copier", "printing machine"),
    "fan": ("ventilator",),
    "clock": ("wall clock", "something that tells the time"),
    "book": ("books",),
    "bottle": ("water bottle",),
    "cup": ("mug",),
    "stairs": ("staircase", "steps"),
    "person": ("human", "man", "woman"),
}

#: Words offered for continuous labelling when the user sets none.
DEFAULT_VOCABULARY: tuple[str, ...] = tuple(CONCEPTS)

#: Alternatives that no query means: what a voxel is when it is nothing in particular.
BACKGROUND: tuple[str, ...] = ("background", "other", "object", "clutter", "empty room")
