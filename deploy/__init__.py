"""What runs beside the board: find firmware, fetch it, trust it, run it."""
