"""The entry point of Seatrial's MLflow images.

A small supervisor stays as the container's first process (`main`, `supervisor`). In a forked
child, arguments and environment are made into what MLflow understands (`command`, `server`), the
databases are waited for and made ready (`databases`, `schema`, `locks`, `readiness`), and MLflow's
own command line takes over without a new program, so that no secret is an argument of a process.
For a server it does so in one more child, forked when MLflow is loaded: the first will serve
(`preloading`, `handover`).
"""
