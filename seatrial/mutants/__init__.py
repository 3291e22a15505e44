"""Images that break one promise each, and the proof that the trial refuses them for it."""
