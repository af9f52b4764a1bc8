"""RecBole's LightGBM and XGBoost, which the libraries of these names train at once."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from recbole_ssm.training import run_log

_SUFFIX = {"LightGBM": ".txt", "XGBoost": ".json"}
"""By which the libraries know the format of a model file."""


class TreeTraining:
    """Mixed into RecBole's trainer of decision trees: the checkpoint is the library's own file, and no pickle."""

    def __init__(self, config, model):
        super().__init__(config, model)
        file = Path(self.saved_model_file)
        suffix = _SUFFIX[config["model"]]
        self.saved_model_file = str(file.with_name(f"{file.stem}-{config['dataset']}{suffix}"))
        self.temp_best_file = self.saved_model_file
        self.temp_file = str(file.with_name(f"{file.stem}-{config['dataset']}-unfinished{suffix}"))
        self.latest_file = Path(self.temp_file)
        """What is not needed once the training is over."""

    def _train_at_once(self, train_data, valid_data):
        start = perf_counter()
        super()._train_at_once(train_data, valid_data)
        self.history.append({"epoch": len(self.history) + 1, "train_seconds": perf_counter() - start})
        run_log.write(self.history[-1])

    def _save_checkpoint(self, epoch, **kwargs):
        self.model.save_model(self.saved_model_file)
