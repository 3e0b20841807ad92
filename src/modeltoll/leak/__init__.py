"""What an answer gives away about the model."""
