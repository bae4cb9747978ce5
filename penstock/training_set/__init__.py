"""Training sets: built, described by a manifest, compared between modes."""
