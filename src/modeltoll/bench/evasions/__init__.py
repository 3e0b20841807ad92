"""What thieves do so that a toll costs them less, one file a trick."""
