"""Sweeps that share a store share the work: nothing is measured twice, nothing disturbs a timing.

`leases` says which sweep measures which cells, `devices` keeps timings of one host apart, and
`work` tells a runner which cells are still to be measured and leases them for it.
"""
