"""An unlearning run: settings, inputs, the run itself and its report."""
