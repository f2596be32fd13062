"""A workflow that runs: the graph's generator of jobs, and the steps that are woken in it."""
