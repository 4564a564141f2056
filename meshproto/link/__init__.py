"""One connection.  No bytes pass above this package."""
