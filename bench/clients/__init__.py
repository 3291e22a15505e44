"""HTTP clients of several languages, as their users find them."""
