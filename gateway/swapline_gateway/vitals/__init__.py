"""What the gateway says about itself: its own figures, disks, certificates and the broker's, as points (0039)."""
