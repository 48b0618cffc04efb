"""The mutations of `run.py`: lines that join one part to another, each with a mistake and the tests that notice it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]

KEYS = "tests/engine/test_wiring.py"
TRAINER = "tests/engine/test_trainer_wiring.py"
WIRING = "tests/modeling/test_wiring.py"
EXTRA = "tests/modeling/test_extra_losses.py"


class Mutation(NamedTuple):
    """
    Attributes:
        name: for the command line.
        file: below the repository.
        old: occurs once in the file.
        new: takes its place.
        tests: pytest's arguments; one of them must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    # From the config to the losses.
    Mutation(
        "epl_without_stride",
        "epl_d2/modeling/losses/epl.py",
        "            stride=epl.STRIDE,\n",
        "",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_without_ignore_value",
        "epl_d2/modeling/losses/epl.py",
        "            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,\n",
        "",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_kernel_sizes_exchanged",
        "epl_d2/modeling/losses/epl.py",
        "line_kernel_size=epl.LINE.KERNEL_SIZE",
        "line_kernel_size=epl.POINT.KERNEL_SIZE",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "losses_without_ignore_value",
        "epl_d2/modeling/losses/table.py",
        "partial(self.function, ignore_value=ignore_value, **arguments)",
        "partial(self.function, **arguments)",
        (f"{WIRING}::test_criteria_get_their_settings[image_weighted-weighted_by_image]",),
    ),
    Mutation(
        "losses_without_settings",
        "epl_d2/modeling/losses/table.py",
        "partial(self.function, ignore_value=ignore_value, **arguments)",
        "partial(self.function, ignore_value=ignore_value)",
        (f"{WIRING}::test_extra_losses_hold_their_keys_under_their_names",),
    ),
    Mutation(
        "settings_unchecked",
        "epl_d2/modeling/losses/table.py",
        "        if self.check is not None:\n            self.check(**arguments)\n",
        "",
        (f"{EXTRA}::test_bad_criteria_are_named", f"{EXTRA}::test_bad_values_fail_when_the_head_is_built"),
    ),
    Mutation(
        "criterion_without_settings",
        "epl_d2/modeling/losses/criterion.py",
        "head.get(key, {})",
        "{}",
        (f"{WIRING}::test_criteria_get_their_settings",),
    ),
    Mutation(
        "extra_loss_without_map",
        "epl_d2/modeling/losses/extra_losses.py",
        "map_name=MAP_OF_LOSS[key]",
        "map_name=None",
        (f"{WIRING}::test_extra_losses_hold_their_keys_under_their_names",),
    ),
    Mutation(
        "extra_loss_without_ramp",
        "epl_d2/modeling/losses/extra_losses.py",
        "ramp(iteration, loss.start_iter, loss.ramp_iters)",
        "ramp(iteration, loss.start_iter, 0)",
        (f"{EXTRA}::test_each_has_its_own_schedule",),
    ),
    Mutation(
        "loader_without_the_losses_maps",
        "epl_d2/data/maps.py",
        "dict.fromkeys([*cfg.INPUT.MAPS, *needed])",
        "cfg.INPUT.MAPS",
        ("tests/data/test_maps.py",),
    ),
    # What all heads share.
    Mutation(
        "epl_without_iteration",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.epl(logits, targets, iteration=_current_iteration())",
        "self.epl(logits, targets)",
        ("tests/modeling/test_heads.py::test_start_iteration_and_ramp_follow_the_trainer",),
    ),
    Mutation(
        "extra_losses_without_iteration",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.extra_losses(logits, targets, features, iteration=_current_iteration())",
        "self.extra_losses(logits, targets, features)",
        (f"{EXTRA}::test_each_has_its_own_schedule",),
    ),
    Mutation(
        "criterion_without_weight",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.loss(logits, targets) * self.loss_weight",
        "self.loss(logits, targets)",
        ("tests/modeling/test_heads.py", "tests/modeling/test_psp.py"),
    ),
    Mutation(
        "auxiliary_without_weight",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "ignore_value=self.ignore_value) * self.aux_loss_weight",
        "ignore_value=self.ignore_value)",
        ("tests/modeling/test_psp.py",),
    ),
    Mutation(
        "auxiliary_without_ignore_value",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "cross_entropy(auxiliary, targets, ignore_value=self.ignore_value)",
        "cross_entropy(auxiliary, targets)",
        ("tests/modeling/test_psp.py",),
    ),
    Mutation(
        "targets_padded_with_a_class",
        "epl_d2/modeling/meta_arch/semantic_segmentor.py",
        "pad_value=self.sem_seg_head.ignore_value",
        "pad_value=0",
        ("tests/modeling/test_psp.py", "tests/modeling/test_nvidia_deeplab.py", "tests/modeling/test_gscnn.py"),
    ),
    Mutation(
        "attention_loss_without_ignore_value",
        "epl_d2/modeling/sem_seg_head/gscnn.py",
        "edge_attention_loss(logits, targets, edges, ignore_value=self.ignore_value)",
        "edge_attention_loss(logits, targets, edges)",
        ("tests/modeling/test_gscnn.py",),
    ),
    Mutation(
        "edge_target_of_other_classes",
        "epl_d2/modeling/sem_seg_head/gscnn.py",
        '{"ignore_value": self.ignore_value, "all_classes": self.edges_of_all_classes}',
        '{"ignore_value": self.ignore_value}',
        ("tests/modeling/test_gscnn.py",),
    ),
    # The protocol of a test.
    Mutation(
        "windows_always_mirrored",
        "epl_d2/modeling/meta_arch/test_time_augmentation.py",
        "flip=augmented and cfg.TEST.AUG.FLIP",
        "flip=cfg.TEST.AUG.FLIP",
        (f"{WIRING}::test_the_protocol_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "windows_without_stride",
        "epl_d2/modeling/meta_arch/test_time_augmentation.py",
        "                stride_fraction=window.STRIDE_FRACTION,\n",
        "",
        (f"{WIRING}::test_the_protocol_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "test_without_protocol",
        "epl_d2/engine/trainer.py",
        "with_test_time_protocol(cfg, model), evaluators",
        "model, evaluators",
        (f"{TRAINER}::test_a_test_follows_the_protocol",),
    ),
    # The trainer.
    Mutation(
        "evaluator_without_ignore_mode",
        "epl_d2/engine/trainer.py",
        "            ignore_mode=cfg.TEST.BOUNDARY.IGNORE_MODE,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "evaluator_without_trimap",
        "epl_d2/engine/trainer.py",
        "            trimap=cfg.TEST.BOUNDARY.TRIMAP,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "evaluator_without_ignore_value",
        "epl_d2/engine/trainer.py",
        "            ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "norms_that_cannot_synchronize",
        "epl_d2/engine/trainer.py",
        "super().build_model(with_working_norms(cfg))",
        "super().build_model(cfg)",
        (f"{TRAINER}::test_a_model_is_built_with_norms_that_work",),
    ),
    Mutation(
        "optimizer_without_decay_of_norms",
        "epl_d2/engine/trainer.py",
        "            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,\n",
        "",
        (f"{TRAINER}::test_the_optimizer_holds_the_solvers_keys",),
    ),
    Mutation(
        "optimizer_without_clipping",
        "epl_d2/engine/trainer.py",
        "return maybe_add_gradient_clipping(cfg, optimizer)",
        "return optimizer",
        (f"{TRAINER}::test_gradients_are_clipped_as_the_solver_says",),
    ),
    Mutation(
        "best_checkpoint_at_other_times",
        "epl_d2/engine/trainer.py",
        "BestCheckpointer(self.cfg.TEST.EVAL_PERIOD,",
        "BestCheckpointer(self.cfg.SOLVER.CHECKPOINT_PERIOD,",
        (f"{TRAINER}::test_the_trainer_holds_its_periods",),
    ),
    Mutation(
        "wandb_after_tensorboard",
        "epl_d2/engine/trainer.py",
        "writers.insert(0, WandbWriter(self.cfg))",
        "writers.append(WandbWriter(self.cfg))",
        ("tests/engine/test_writers.py",),
    ),
    Mutation(
        "unreadable_files_never_skipped",
        "epl_d2/data/build.py",
        "        cfg.DATALOADER.MAX_UNREADABLE,\n",
        "",
        (f"{KEYS}::test_every_key_changes_what_is_built_from_it",),
    ),
    # Grids.
    Mutation(
        "jobs_left_behind",
        "epl_d2/experiments/launch.py",
        "            job.cancel(check=False)\n",
        "            pass\n",
        ("tests/experiments/test_launch.py::test_an_interrupted_grid_leaves_no_job_behind",),
    ),
    Mutation(
        "lock_not_inherited",
        "epl_d2/experiments/runs.py",
        "pass_fds=(lock,), ",
        "",
        ("tests/experiments/test_launch.py::test_a_training_that_outlives_its_grid_keeps_its_folder_locked",),
    ),
    Mutation(
        "gpus_not_dealt_out",
        "epl_d2/experiments/launch.py",
        "executor.submit(_Job(run, slot))",
        "executor.submit(_Job(run))",
        ("tests/experiments/test_launch.py::test_failed_runs_are_named_and_the_others_go_on",),
    ),
)
