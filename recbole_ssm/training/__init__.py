"""From a configuration to a trained and tested model."""
