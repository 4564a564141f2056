"""Many connections: the node and what it does."""
