"""Runs first on a board: free the serial console of nothing, load nothing. The application starts in `main.py`."""

import gc

gc.collect()
