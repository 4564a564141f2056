"""Decisions as values, without Twisted: the time is an argument."""
