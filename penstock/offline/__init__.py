"""Delta tables: where they are, what is written to them, and how a view's rows are computed."""
