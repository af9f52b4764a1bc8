"""Files of trained models and of trainings as they stand."""
