"""Whether data may be published, and whether what is served is right and fresh."""
