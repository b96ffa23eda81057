"""The desk: what is on it (`bench_file`), what can be done with it (drivers), its states as a whole (`strategy`)."""
