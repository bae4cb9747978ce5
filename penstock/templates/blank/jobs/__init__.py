"""What runs when: the project's definitions and how its raw facts are fetched."""
