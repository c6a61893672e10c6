"""The machine that is measured on: environment, hardware and calibration."""
