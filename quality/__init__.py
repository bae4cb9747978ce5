"""This project's own rules and budgets, beside those its views declare."""
