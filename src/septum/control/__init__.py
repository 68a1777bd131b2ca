"""The control plane: the state, applying a change, and the socket on which commands reach it."""
