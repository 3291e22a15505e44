"""The container engine: its facts, its connection and its set-up."""
