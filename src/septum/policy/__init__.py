"""What an author writes and what it means: YAML in, Policy out, and the one function that decides."""
