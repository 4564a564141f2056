"""Policy: decisions as values, without Twisted; the time is an argument."""
