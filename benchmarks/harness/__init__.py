"""The parts of benchmarks/run. The command itself says what they do together."""
