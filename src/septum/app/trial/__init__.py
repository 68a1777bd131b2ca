"""Policy tests through the compiled Envoy: the same cases as real requests, and whether the proxy and the model agree.

One Envoy fronts every workload that a case names, on loopback and in a directory that goes away afterwards; whatever it
lets through is answered by small backends.
"""
