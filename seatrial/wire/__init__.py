"""HTTP/1.1 as bytes on a connection: what no HTTP library would send, and what comes back."""
