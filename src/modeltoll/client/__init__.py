"""Those who pay."""
