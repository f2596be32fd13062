"""The commands. Each is imported only when it is used."""
