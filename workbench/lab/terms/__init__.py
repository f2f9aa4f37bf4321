"""What each term of a loss contributes: its weight, its gradient, its share."""
