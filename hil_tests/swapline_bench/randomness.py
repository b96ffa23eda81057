"""Sources of chance that are the same on every run: each part of the simulation draws from its own."""

from random import Random


def make_random(*parts: object) -> Random:
    """Return a generator seeded by `parts` (a seed and the names of what draws), the same on every machine."""
    return Random("/".join([str(part) for part in parts]))  # noqa: S311 -- a simulation is meant to be repeatable
