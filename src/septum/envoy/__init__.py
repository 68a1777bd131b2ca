"""A policy and a mesh to Envoy resources, pure and deterministic; one file per Envoy concept."""
