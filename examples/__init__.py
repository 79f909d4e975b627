"""Networks to train and compile; run them as modules from the top of the repository."""
