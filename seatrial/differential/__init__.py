"""The differential trial: MLflow itself is what a server under test is compared with.

The same sequence of operations runs through the real client against two servers, and every answer
of the one is compared with that of the other. docs/differential.md explains it to users.
"""
