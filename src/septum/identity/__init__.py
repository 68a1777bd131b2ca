"""Who is who: the authority of a trust domain, the certificates it issues, and how they are read and checked."""
