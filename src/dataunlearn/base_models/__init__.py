"""Train base models from scratch: pixel models, autoencoders, text-to-image models."""
