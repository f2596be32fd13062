"""A workflow that is looked at without being run: which tools it would run, and what is known of them."""
