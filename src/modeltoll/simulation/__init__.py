"""What a tariff does to honest callers and to thieves, without a gateway."""
