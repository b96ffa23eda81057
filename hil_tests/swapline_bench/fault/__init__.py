"""What goes wrong on a serial line, from a seed: `model` says what and counts it, `uart` knows what bits become."""
