"""What would change, as a value: made once, then explained and applied by the same stages. Pure."""
