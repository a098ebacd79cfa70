"""The command ``dataunlearn``."""
