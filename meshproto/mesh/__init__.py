"""The node: many connections, and what it does with them."""
