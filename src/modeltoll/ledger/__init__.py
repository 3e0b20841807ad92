"""The ledger: the store of callers' accounts that all gateways of a deployment share."""
