"""Races against the [bench] peers and against ourselves: `python -m tests.benchmarks [NAME …] [--json FILE] [--repeat N]`."""
