"""What is added to RecBole's training: a hook for each subject, called by :mod:`recbole_ssm.training.trainer`."""
