"""What comes next for each van: how far it gets, where it can swap, and whether it must (0039)."""
