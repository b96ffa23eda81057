"""Serial faces: the real protocols, spoken from simulated objects.

A face reads attributes of the bench's objects (volts, amperes, degrees) when a request arrives and never keeps a copy,
so a module that moves to another bay takes its identity and its values along. Faces share no code with the firmware's
drivers: both sides are written from the devices' documents and tested against recorded frames.
"""
