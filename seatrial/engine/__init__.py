"""The container engine: finding it, asking it, and making a machine have one."""
