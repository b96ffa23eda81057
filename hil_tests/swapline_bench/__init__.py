"""The bench: simulators, a world of vans and stations, and rigs that drive the real firmware."""
