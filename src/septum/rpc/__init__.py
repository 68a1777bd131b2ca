"""What agents and the control plane say to each other beside xDS: messages, and both edges of the gRPC service."""
