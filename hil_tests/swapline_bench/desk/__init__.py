"""The desk: what is on it (`bench_file`), what can be done with it (drivers), and its states as a whole (`strategy`)."""
