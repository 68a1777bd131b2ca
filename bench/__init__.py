"""The numbers that DESIGN.md promises, measured: `python -m bench [NAME...] [--quick]`. Nothing leaves loopback."""
