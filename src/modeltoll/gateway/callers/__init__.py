"""Who sends a request: API keys, JSON web tokens, network addresses, daily quotas."""
