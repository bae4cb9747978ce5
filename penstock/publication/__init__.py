"""Bringing computed partitions online: what is due, how it is written, what is recorded."""
