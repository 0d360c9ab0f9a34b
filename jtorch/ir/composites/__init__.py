"""Composites: operations that are recorded under their own names and carry a decomposition into primitives."""
