"""SPIRE as the source of SVIDs: a client of the SPIFFE Workload API (X.509-SVID profile), in place of our authority."""
