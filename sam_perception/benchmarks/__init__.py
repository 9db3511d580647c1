"""Speed and memory, measured on the machine at hand against what one would use instead; see docs/benchmarks.md."""
