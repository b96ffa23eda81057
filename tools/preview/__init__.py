"""Draws a board's panels with matplotlib, roughly as Grafana's light theme does, from the answers to their own queries.

`frame.py` has the answers as columns, `style.py` what the board says of how values look, `chart.py` and `sheet.py` the
kinds of panels. It is for people who want to see what a board shows; Grafana draws more, and better.
"""
