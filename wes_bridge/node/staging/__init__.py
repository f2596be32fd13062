"""How data reaches a session and leaves it: one file per URL scheme."""
