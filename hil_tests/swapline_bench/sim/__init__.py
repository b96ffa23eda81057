"""Simulators as products: one device of the bench by itself, on a real serial port or a pty, under live control."""
