"""Windowed aggregations: from the rows of a source, or from tiles of mergeable states of them."""
