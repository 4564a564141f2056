"""Ways to run a node: services, the daemon, the prompt."""
