"""Self-contained HTML pages: text, tables and pictures, nothing fetched from anywhere."""
