"""Whole models, `scope=model`: image classifiers, built, checked and timed as mechanisms are."""
