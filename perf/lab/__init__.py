"""The laboratory: what all scenarios and peers share. How to use it and how to add to it: perf/README.md."""
