"""The benchmarks: `python -m bench` measures what an event and a tick cost, and how that grows."""
