"""Septum: a segmented access proxy for microservices on an Envoy data plane."""

__version__ = "0.1.0"
