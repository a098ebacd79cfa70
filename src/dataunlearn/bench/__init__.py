"""Compare methods: every method with every seed, one table."""
