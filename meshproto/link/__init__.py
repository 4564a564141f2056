"""One connection.  Bytes stop here."""
