"""What happens to one request, without HTTP: measure, price, charge, seal."""
