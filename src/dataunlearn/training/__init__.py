"""The training loop and the gradient engine."""
