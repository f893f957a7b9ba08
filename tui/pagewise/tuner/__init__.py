"""Finds the settings and the placement that suit this machine and this model: what may change, in which order, and
when a difference is one.
"""
