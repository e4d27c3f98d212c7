"""pmsync: from Jira, GitHub and calendars to a warning in front of a project manager."""
