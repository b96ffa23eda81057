"""The device application: drivers, sampler, journal, publisher."""

import sys

if sys.implementation.name != "micropython":
    from . import cpython  # noqa: F401
