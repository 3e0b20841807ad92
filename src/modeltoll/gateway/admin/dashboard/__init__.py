"""The dashboard: read-only pages of what the ledger and the drift monitors hold."""
