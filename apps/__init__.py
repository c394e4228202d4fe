"""Programs over the library. None yet."""
