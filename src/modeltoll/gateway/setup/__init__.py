"""What prepares a gateway: discovery of models, a first settings file, the check, the calibration."""
