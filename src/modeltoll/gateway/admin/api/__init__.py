"""The admin API: read the state of a gateway, its accounts and its log; reset accounts; change tiers."""
