"""The audit: which pictures does a model know by heart?"""
