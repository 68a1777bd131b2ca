"""The xDS protocol: sessions without I/O, the state of every node, and the server. Carries opaque bytes."""
