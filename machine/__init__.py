"""`invoke setup`, tried on machines in containers: `nox -s machine`."""
