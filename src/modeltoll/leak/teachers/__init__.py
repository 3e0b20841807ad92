"""Teacher ensembles for PATE: how they are fitted, stored and asked."""
