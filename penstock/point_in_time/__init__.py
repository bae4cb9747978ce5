"""The rule of time for a whole spine."""
