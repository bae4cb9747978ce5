"""This project's features: one file per feature view, with its source and entity beside it or in files of their own."""
