"""Measures of a project: pure functions over a view of it at an instant."""
