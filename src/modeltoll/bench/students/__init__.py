"""The models that attacks train."""
