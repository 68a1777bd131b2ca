"""How laws are tried: no deadline for one example, since a shared machine pauses where it likes."""

from hypothesis import settings

settings.register_profile("laws", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("laws")
