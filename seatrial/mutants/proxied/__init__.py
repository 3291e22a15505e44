"""Mutants without images: a proxy between client and server changes one thing at a time.

They are made from MLflow's own definitions of its endpoints and fields, so that there are
thousands without writing one. What a proxy can't do, such as a restart that loses data, stays with
the images.
"""
