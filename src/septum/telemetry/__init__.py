"""How a process is, for those who watch over it: Prometheus metrics and health, over HTTP."""
