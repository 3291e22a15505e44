"""Checks and runs of what GitHub and GitLab run."""
