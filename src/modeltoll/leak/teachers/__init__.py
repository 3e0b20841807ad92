"""Teacher ensembles for PATE: training, storage and inference."""
