"""The pytest plugin: options, tests made from contracts, fixtures, reports."""
