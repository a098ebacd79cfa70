"""Measures of forgetting and of what the model still does well."""
