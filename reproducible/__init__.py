"""Two builds of one commit, compared by digest."""
