"""One tool: its inputs bound, its command line, its job as a ``StepPlan``, and its outputs collected."""
