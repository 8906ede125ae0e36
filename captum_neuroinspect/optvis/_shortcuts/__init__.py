"""A frozen network, computed with less work."""
