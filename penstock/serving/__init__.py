"""The gateway: from a request for a feature service to values that are right, labelled, or a typed error."""
