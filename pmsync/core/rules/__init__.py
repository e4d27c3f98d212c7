"""Rules: pure functions from a project and an instant to what is wrong then."""
