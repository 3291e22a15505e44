"""Measurements of Seatrial itself: what its way of building and trying images costs."""
