"""Temperature and α under the hand: answers of models, softened and compared, in the browser."""
