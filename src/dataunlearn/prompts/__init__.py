"""A run of ``dataunlearn unlearn-prompts``: from files of prompts to a new model and its report."""
