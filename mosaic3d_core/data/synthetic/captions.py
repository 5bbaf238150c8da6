"""Captions of the things in a synthetic room, from names, colour, material, size, use and relations.

The texts follow templates with random choices; `noise` of them describe the wrong colour, as a captioning model would.
"""

from __future__ import annotations

import numpy as np

from mosaic3d_core.data.synthetic.classes import CLASS_ID, CLASSES, ObjectClass
from mosaic3d_core.data.synthetic.materials import OBJECT_COLORS
from mosaic3d_core.data.synthetic.scene import Instance, RoomScene

_BARE = (
    "{name}",
    "a {name}",
    "the {name}",
    "a {name} in a {room}",
    "this is a {name}",
    "a photo of a {name}",
    "there is a {name}",
)
_DESCRIBED = ("a {adjectives} {name}", "{adjectives} {name}", "the {adjectives} {name} in the {room}", "a {name} that is {last}")
_RELATED = ("a {name} {relation}", "a {adjectives} {name} {relation}", "the {name} {relation}")
_USED = ("{use}", "{use}", "a {name}, {use}")


def class_of(instance: Instance) -> ObjectClass:
    """The class record of an instance."""
    return CLASSES[CLASS_ID[instance.class_name]]


def caption(instance: Instance, scene: RoomScene, rng: np.random.Generator, noise: float = 0.03) -> str:
    """One random caption of an instance.

    Args:
        instance: The thing to describe.
        scene: Its room, for relations and the room word.
        rng: Source of randomness.
        noise: Probability of naming a wrong colour.

    Returns:
        A short lower-case phrase without final stop.
    """
    record = class_of(instance)
    names = (record.name, record.name, *record.synonyms)
    name = names[int(rng.integers(len(names)))]
    color = instance.model.color
    if color and rng.random() < noise:
        color = str(rng.choice(list(OBJECT_COLORS)))
    words = [w for w in (instance.model.size_word, color, instance.model.material) if w and rng.random() < 0.6]
    room = "room" if scene.kind in ("mixed", "studio") or rng.random() < 0.5 else scene.kind
    choice = rng.random()
    if record.uses and choice < 0.12:
        template = _pick(_USED, rng)
    elif words and choice < 0.42:
        template = _pick(_DESCRIBED, rng)
    elif choice < 0.56 and (relation := _relation(instance, scene, rng)):
        template = _pick(_RELATED if words else _RELATED[::2], rng)
        return template.format(name=name, adjectives=" ".join(words), relation=relation)
    else:
        template = _pick(_BARE, rng)
    use = record.uses[int(rng.integers(len(record.uses)))] if record.uses else ""
    return template.format(name=name, adjectives=" ".join(words), last=words[-1] if words else "", room=room, use=use)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _relation(instance: Instance, scene: RoomScene, rng: np.random.Generator) -> str:
    """A true phrase that relates the instance to another one, "" when none is near."""
    if instance.parent:
        return f"on the {scene.instances[instance.parent - 1].class_name}"
    middle = instance.bounds.mean(0)
    best, found = 1.2, ""
    for other in scene.instances:
        if other.id == instance.id or class_of(other).stuff or other.parent == instance.id:
            continue
        gap = np.maximum(np.maximum(other.bounds[0] - instance.bounds[1], instance.bounds[0] - other.bounds[1]), 0)
        distance = (
            float(np.linalg.norm(gap)) + 0.1 * float(np.linalg.norm(other.bounds.mean(0)[:2] - middle[:2])) + rng.uniform(0, 0.3)
        )
        if distance < best:
            best, found = distance, other.class_name
    if not found:
        return "by the wall" if not class_of(instance).stuff else ""
    return f"{_pick(('next to', 'near', 'beside', 'close to'), rng)} the {found}"


def plain_vocabulary() -> tuple[tuple[str, int], ...]:
    """Every (text, class id) that captions use as a bare name or a use: class names, synonyms and uses."""
    return tuple((text, CLASS_ID[c.name]) for c in CLASSES for text in (c.name, *c.synonyms, *c.uses))


def words_for_classes() -> dict[str, tuple[str, ...]]:
    """Other words for each class name: its synonyms and uses."""
    return {c.name: (*c.synonyms, *c.uses) for c in CLASSES}
