"""What a detector's predictions are worth."""
