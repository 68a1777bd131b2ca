"""Decision records: read from Envoy's log, kept in one table, asked."""
