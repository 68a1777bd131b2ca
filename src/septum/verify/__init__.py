"""Exact reasoning about policies: sets of requests, differences, guarantees. Pure, and without the compiler."""
