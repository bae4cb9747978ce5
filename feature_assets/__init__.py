"""The flights project's features: one file per view, their sources, and the services models ask for."""
