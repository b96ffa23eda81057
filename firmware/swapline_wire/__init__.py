"""The contract between devices and gateway: catalogue of signals, frames, messages and topics.

The gateway imports these very files; MicroPython runs them unmodified.
"""
