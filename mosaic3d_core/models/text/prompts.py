"""Class names as the sentences that the published nets are asked with."""

from __future__ import annotations

from collections.abc import Sequence

PUBLISHED_TEMPLATE = "a {} in a scene"


def class_prompts(names: Sequence[str], template: str | None = PUBLISHED_TEMPLATE) -> list[str]:
    """One text per class: the template, and the single word "other" for every class with "other" in its name.

    Args:
        names: Class names.
        template: Sentence with one "{}" for the name; None for the bare names.

    Raises:
        ValueError: If the template has no place for the name.
    """
    if template is not None and template.count("{}") != 1:
        raise ValueError(f'a prompt template needs one "{{}}" for the class name, got "{template}"')
    return ["other" if "other" in name else name if template is None else template.format(name) for name in names]
