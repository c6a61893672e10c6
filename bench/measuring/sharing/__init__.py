"""Sweeps that share a store share the work: nothing is measured twice, nothing disturbs a timing.

`claims` say which sweep measures what, `devices` keeps timings of one host apart, `work` is what a
runner asks: is this still to be done, and may I do it?
"""
