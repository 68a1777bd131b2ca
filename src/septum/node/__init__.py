"""One Envoy and what it needs: the binary, its process, its admin, its log."""
