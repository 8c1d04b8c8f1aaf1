"""Checkpoints are written whole or not at all, sealed, and rotated by step."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import rotate_checkpoints

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.manifest import is_planned, need_whole, seal
from gamma_nlp.tasks.run.checkpoints import (
    checkpoint_folders,
    checkpoints,
    last_checkpoint,
    step_of,
)
from gamma_nlp.tasks.run.stopping import StopAndSave

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object


class WholeCheckpoints(_Base):
    """Seals each checkpoint and leaves no half of one; put it before the Trainer.

    Old checkpoints go once the new one is sealed. They go by their step: a clock that was set back
    (in a container, a virtual machine) would make the newest look oldest.
    """

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            _remove(folder)  # damaged, or of a run that was killed
        self.accelerator.wait_for_everyone()
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(*args, **kwargs)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(folder, planned=self._is_planned())
        except GammaError:
            raise
        except Exception as error:  # a full disk: each writer has an error of its own
            raise self._not_written(folder, error) from error
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            self._drop_unplanned(folder)
            if limit:
                self._drop_later()
            best = self.state.best_model_checkpoint
            rotate_checkpoints(self.args.output_dir, limit, best_model_checkpoint=best)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if best is not None:
            instead = "without --load_best_model_at_end the final model is kept"
            need_whole(Path(best), "load the best model", instead)
        super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Warn of what is really missing: tied parameters are saved once, some never."""
        model = self.accelerator.unwrap_model(self.model)
        tensors = dict(model.named_parameters(remove_duplicate=False))
        missing = set(load_result.missing_keys)
        loaded = {id(tensor) for name, tensor in tensors.items() if name not in missing}
        never = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
        really = [n for n in missing - never if id(tensors.get(n)) not in loaded]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=sorted(really)))

    def _is_planned(self) -> bool:
        stops = [one for one in self.callback_handler.callbacks if isinstance(one, StopAndSave)]
        return all(one.saved_step != self.state.global_step for one in stops)

    def _drop_unplanned(self, newest: Path) -> None:
        """Remove where the run was once told to stop: a run that went on has no such checkpoint."""
        for path in checkpoints(self.args.output_dir):
            if path != newest and not is_planned(path):
                shutil.rmtree(path, ignore_errors=True)

    def _drop_later(self) -> None:
        """Remove what this run passed over as damaged: rotation keeps the latest of all."""
        for path in checkpoint_folders(self.args.output_dir):
            if step_of(path) > self.state.global_step:
                _remove(path)

    def _not_written(self, folder: Path, error: Exception) -> GammaError:
        free = shutil.disk_usage(self.args.output_dir).free / 2**20
        if self.args.should_save and folder not in checkpoints(self.args.output_dir):
            shutil.rmtree(folder, ignore_errors=True)
        last = last_checkpoint(self.args.output_dir)
        go_on = f"; the same command with --resume continues from {last.name}" if last else ""
        return GammaError(
            f"cannot write {folder}: {one_line(error)} ({free:.1f} MiB are free there); free "
            f"some space, or write elsewhere{go_on}"
        )


def _remove(folder: Path) -> None:
    """Remove what stands where a checkpoint is to be written; never what a link leads to."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
