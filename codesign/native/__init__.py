"""Training passes of small networks in compiled code: torch's cost of a call is half of what such a network takes."""
