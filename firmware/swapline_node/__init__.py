"""The device application: drivers, sampler, journal, publisher."""
