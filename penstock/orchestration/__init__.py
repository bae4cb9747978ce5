"""A project as Dagster assets, checks, jobs and sensors; the only package that imports dagster."""

from penstock.orchestration.definitions import definitions

__all__ = ["definitions"]
