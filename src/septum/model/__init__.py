"""The nouns, frozen: what exists, what may happen, what was asked and what was decided. Imports nothing else."""
