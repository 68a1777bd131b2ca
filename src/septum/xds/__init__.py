"""The xDS protocol: delta sessions without I/O, what each node was sent, holds and refused, and the server. Carries opaque bytes."""
