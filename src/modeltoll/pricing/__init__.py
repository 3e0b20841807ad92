"""What a leak costs."""
