"""The operator's dashboard: what the ledger and the monitors know, on a few pages. It changes nothing."""
