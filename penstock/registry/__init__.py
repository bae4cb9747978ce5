"""Definitions compiled, fingerprinted and loaded without Spark or Dagster."""
