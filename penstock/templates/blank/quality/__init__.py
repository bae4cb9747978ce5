"""This project's own rules and budgets."""
