"""Stand-ins for Jira, GitHub and calendars over HTTP, for the demo and the tests; imported by nothing else."""
