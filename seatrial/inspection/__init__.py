"""What an image holds, read out of its layers without running anything of it."""
