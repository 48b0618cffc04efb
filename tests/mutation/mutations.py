"""The mutations of `run.py`: lines that join one part to another, each with a mistake and the tests that notice it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]

KEYS = "tests/engine/test_wiring.py"
TRAINER = "tests/engine/test_trainer_wiring.py"
GOING_ON = "tests/engine/test_going_on.py"
WIRING = "tests/modeling/test_wiring.py"
MASK_HEAD = "tests/modeling/test_mask_head.py"
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
        "        stride=cfg.MODEL.EPL.STRIDE,\n",
        "",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_without_ignore_value",
        "epl_d2/modeling/losses/epl.py",
        "        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,\n",
        "",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_without_ignore_mode",
        "epl_d2/modeling/losses/epl.py",
        "        ignore_mode=cfg.MODEL.EPL.IGNORE_MODE,\n",
        "",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_without_backend",
        "epl_d2/modeling/losses/epl.py",
        "            backend=epl.BACKEND,\n",
        "",
        (f"{WIRING}::test_the_backend_reaches_the_losses",),
    ),
    Mutation(
        "backend_that_stops_at_the_module",
        "epl_d2/losses/terms.py",
        "return kernels.evaluate(logits, target, terms, backend)",
        "return kernels.evaluate(logits, target, terms)",
        (f"{WIRING}::test_the_backend_reaches_the_losses",),
    ),
    Mutation(
        "kernels_that_are_not_checked",
        "epl_d2/losses/kernels/guarded.py",
        "reason = _difference(logits, term, sigmoid)",
        "reason = None",
        ("tests/losses/test_guarded.py::test_a_wrong_result_is_found_before_it_counts",),
    ),
    Mutation(
        "gradient_without_memory_advice",
        "epl_d2/losses/kernels/autograd.py",
        "with memory_advice(saved[0]):",
        "if True:",
        ("tests/losses/test_guarded.py::test_out_of_memory_says_what_would_help",),
    ),
    Mutation(
        "epl_kernel_sizes_exchanged",
        "epl_d2/modeling/losses/epl.py",
        "line_kernel_size=terms.LINE.KERNEL_SIZE",
        "line_kernel_size=terms.POINT.KERNEL_SIZE",
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "losses_without_ignore_value",
        "epl_d2/modeling/losses/table.py",
        "settings.items()}, ignore_value=ignore_value)",
        "settings.items()})",
        (f"{WIRING}::test_criteria_get_their_settings[image_weighted-weighted_by_image]",),
    ),
    Mutation(
        "losses_without_settings",
        "epl_d2/modeling/losses/table.py",
        "loss(**{name.lower(): value for name, value in settings.items()}, ignore_value=ignore_value)",
        "loss(ignore_value=ignore_value)",
        (f"{WIRING}::test_extra_losses_hold_their_keys_under_their_names",),
    ),
    Mutation(
        "settings_unchecked",
        "epl_d2/losses/modules.py",
        "        self.check(**{name: value for name, value in self.settings.items() if name in checked})\n",
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
    # The losses.
    Mutation(
        "epl_convolution_not_in_point",
        "epl_d2/losses/epl.py",
        "scaled_kernel_size(point_kernel_size, stride), splitter, convolution, norm, point_region",
        'scaled_kernel_size(point_kernel_size, stride), splitter, "anisotropic", norm, point_region',
        (f"{WIRING}::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "epl_ignore_value_not_in_the_losses",
        "epl_d2/losses/epl.py",
        "settings = self.ignore_value, self.ignore_mode, self.mode",
        "settings = 255, self.ignore_mode, self.mode",
        (f"{WIRING}::test_epl_hands_every_setting_to_both_losses",),
    ),
    Mutation(
        "epl_ignore_mode_not_in_the_losses",
        "epl_d2/losses/epl.py",
        "settings = self.ignore_value, self.ignore_mode, self.mode",
        'settings = self.ignore_value, "nearest", self.mode',
        (f"{WIRING}::test_epl_hands_every_setting_to_both_losses",),
    ),
    Mutation(
        "background_of_a_mask_inside_of_it",
        "epl_d2/losses/modes.py",
        "background=OUTSIDE",
        "background=INSIDE",
        ("tests/losses/test_brute_force.py::test_masks",),
    ),
    Mutation(
        "positions_counted_inside_of_the_masks_alone",
        "epl_d2/losses/kernels/cpu/line.py",
        "np.count_nonzero(position) * k",
        "int(occurring.sum()) * k",
        ("tests/losses/test_brute_force.py::test_masks",),
    ),
    Mutation(
        "epl_without_schedule",
        "epl_d2/losses/epl.py",
        '"loss_epl_line": scale * self.line_weight',
        '"loss_epl_line": self.line_weight',
        ("tests/losses/test_epl.py::test_schedule",),
    ),
    Mutation(
        "point_without_convolution",
        "epl_d2/losses/point.py",
        "PointTerm(kernel_size, splitter, convolution, norm, region)",
        'PointTerm(kernel_size, splitter, "anisotropic", norm, region)',
        (f"{WIRING}::test_no_setting_could_be_left_out_of_them_unnoticed",),
    ),
    Mutation(
        "point_on_lines_sees_ignored_pixels",
        "epl_d2/losses/kernels/cpu/point_on_lines.py",
        "if seen[image, row, column] == 0:",
        "if False:",
        ("tests/losses/test_fast_path.py::test_plain_path", "tests/losses/test_brute_force.py::test_point"),
    ),
    Mutation(
        "point_on_lines_counts_shared_windows_twice",
        "epl_d2/losses/kernels/cpu/point_on_lines.py",
        "if strip == 0 or y >= top:",
        "if True:",
        ("tests/losses/test_fast_path.py::test_short_strips",),
    ),
    Mutation(
        "band_holds_ignored_pixels",
        "epl_d2/losses/kernels/cpu/line_rows.py",
        "wide[y, x] if position[y, x] else 0",
        "wide[y, x]",
        ("tests/losses/test_fast_path.py::test_plain_path", "tests/losses/test_brute_force.py::test_line"),
    ),
    Mutation(
        "band_leaves_out_what_is_off_the_lines",
        "epl_d2/losses/kernels/cpu/line.py",
        'g if formulation == "band" else torch.where',
        "torch.where",
        ("tests/losses/test_brute_force.py::test_line",),
    ),
    Mutation(
        "point_without_region",
        "epl_d2/modeling/losses/epl.py",
        "            point_region=epl.POINT.REGION,\n",
        "",
        ("tests/modeling/test_wiring.py::test_epl_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "line_without_ignore_value",
        "epl_d2/losses/line.py",
        "evaluate_term(term, logits, labels, ignore_value, ignore_mode, mode, reduction)",
        "evaluate_term(term, logits, labels, defaults.IGNORE_VALUE, ignore_mode, mode, reduction)",
        (f"{WIRING}::test_no_setting_could_be_left_out_of_them_unnoticed",),
    ),
    Mutation(
        "line_without_ignore_mode",
        "epl_d2/losses/line.py",
        "evaluate_term(term, logits, labels, ignore_value, ignore_mode, mode, reduction)",
        "evaluate_term(term, logits, labels, ignore_value, defaults.IGNORE_MODE, mode, reduction)",
        (f"{WIRING}::test_no_setting_could_be_left_out_of_them_unnoticed",),
    ),
    Mutation(
        "fill_for_the_shorter_rays",
        "epl_d2/losses/terms.py",
        "reach = max(term.radius for term in terms)",
        "reach = min(term.radius for term in terms)",
        (f"{WIRING}::test_epl_hands_every_setting_to_both_losses",),
    ),
    Mutation(
        "scene_used_up_by_the_first_loss",
        "epl_d2/losses/kernels/__init__.py",
        "last=path not in paths[i + 1 :]",
        "last=True",
        ("tests/losses/test_epl.py::test_both_losses_share_check_and_softmax",),
    ),
    Mutation(
        "threads_of_the_parent_after_a_fork",
        "epl_d2/losses/kernels/cpu/threads.py",
        "    os.register_at_fork(after_in_child=_pool.cache_clear)\n",
        "    pass\n",
        ("tests/losses/test_compiled_kernels.py::test_threads_after_a_fork",),
    ),
    Mutation(
        "losses_in_half_precision",
        "epl_d2/losses/probabilities.py",
        "if logits.dtype == torch.float64 else logits.float()",
        "",
        ("tests/losses/test_gscnn.py",),
    ),
    Mutation(
        "image_weighted_in_half_precision",
        "epl_d2/losses/criteria/gscnn.py",
        "    with full_precision(logits) as logits:\n        n, k",
        "    with full_precision(logits):\n        n, k",
        ("tests/losses/test_gscnn.py",),
    ),
    Mutation(
        "edge_loss_in_half_precision",
        "epl_d2/losses/criteria/gscnn.py",
        "with full_precision(edges) as edges:",
        "with full_precision(edges):",
        ("tests/losses/test_gscnn.py",),
    ),
    Mutation(
        "dual_task_loss_in_half_precision",
        "epl_d2/losses/criteria/gscnn.py",
        "    with full_precision(logits) as logits:\n        if logits",
        "    with full_precision(logits):\n        if logits",
        ("tests/losses/test_gscnn.py",),
    ),
    Mutation(
        "edges_under_the_default_ignore_value",
        "epl_d2/losses/criteria/gscnn.py",
        "image_weighted_cross_entropy(logits, on_edges, ignore_value=ignore_value)",
        "image_weighted_cross_entropy(logits, on_edges)",
        ("tests/losses/test_gscnn.py",),
    ),
    # What all heads share.
    Mutation(
        "epl_without_iteration",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.epl(logits, targets, iteration=current_iteration())",
        "self.epl(logits, targets)",
        ("tests/modeling/test_heads.py::test_start_iteration_and_ramp_follow_the_trainer",),
    ),
    Mutation(
        "extra_losses_without_iteration",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.extra_losses(logits, targets, features, iteration=current_iteration())",
        "self.extra_losses(logits, targets, features)",
        (f"{EXTRA}::test_each_has_its_own_schedule",),
    ),
    Mutation(
        "criterion_without_weight",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.loss(logits, targets, *inputs, **named_inputs) * self.loss_weight",
        "self.loss(logits, targets, *inputs, **named_inputs)",
        ("tests/modeling/test_pytorch_deeplab.py::test_loss_weight_expresses_the_references_division_by_the_batch",),
    ),
    Mutation(
        "criterion_without_further_inputs",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "self.losses(predictions, targets, features, *inputs, **named_inputs)",
        "self.losses(predictions, targets, features)",
        ("tests/test_document_code.py::test_panoptic_deeplab_keeps_its_weighted_criterion",),
    ),
    Mutation(
        "epl_starts_at_once_instead_of_at_its_share",
        "epl_d2/modeling/losses/epl.py",
        "round(epl.START_FRACTION * max_iter)",
        "0",
        ("tests/modeling/test_wiring.py::test_the_schedule_of_epl_can_be_given_in_shares_of_the_training",),
    ),
    Mutation(
        "minutes_of_earlier_attempts_lost",
        "epl_d2/engine/record.py",
        "anew=self.trainer.start_iter == 0",
        "anew=True",
        ("tests/engine/test_record.py::test_a_training_records_where_it_comes_from_and_a_resumed_one_adds_up",),
    ),
    Mutation(
        "auxiliary_without_weight",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "ignore_value=self.ignore_value) * self.aux_loss_weight",
        "ignore_value=self.ignore_value)",
        ("tests/modeling/test_psp.py::test_the_auxiliary_loss_has_its_weight_and_is_left_out_of_inference",),
    ),
    Mutation(
        "auxiliary_without_ignore_value",
        "epl_d2/modeling/sem_seg_head/mixin.py",
        "cross_entropy(auxiliary, targets, ignore_value=self.ignore_value)",
        "cross_entropy(auxiliary, targets)",
        ("tests/modeling/test_psp.py::test_the_auxiliary_loss_has_its_weight_and_is_left_out_of_inference",),
    ),
    Mutation(
        "targets_padded_with_a_class",
        "epl_d2/modeling/meta_arch/semantic_segmentor.py",
        "pad_value=self.sem_seg_head.ignore_value",
        "pad_value=0",
        ("tests/modeling/test_semantic_segmentor.py",),
    ),
    Mutation(
        "attention_loss_without_ignore_value",
        "epl_d2/modeling/sem_seg_head/gscnn.py",
        "edge_attention_loss(logits, targets, edges, ignore_value=self.ignore_value)",
        "edge_attention_loss(logits, targets, edges)",
        ("tests/modeling/test_gscnn.py::test_losses_are_those_of_the_logits_and_edges",),
    ),
    Mutation(
        "edge_target_of_other_classes",
        "epl_d2/modeling/sem_seg_head/gscnn.py",
        '{"ignore_value": self.ignore_value, "all_classes": self.edges_of_all_classes}',
        '{"ignore_value": self.ignore_value}',
        ("tests/modeling/test_gscnn.py::test_edges_of_all_classes_is_a_choice",),
    ),
    # The protocol of a test.
    Mutation(
        "windows_always_mirrored",
        "epl_d2/modeling/meta_arch/test_time_augmentation.py",
        "flip=augmented and cfg.TEST.AUG.FLIP",
        "flip=cfg.TEST.AUG.FLIP",
        (f"{WIRING}::test_parts_of_the_protocol_that_are_off_change_nothing",),
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
        "epl_d2/engine/evaluators.py",
        "        ignore_mode=cfg.TEST.BOUNDARY.IGNORE_MODE,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "evaluator_without_ignore_distance",
        "epl_d2/engine/evaluators.py",
        "        ignore_distance=cfg.TEST.BOUNDARY.IGNORE_DISTANCE,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "evaluator_without_trimap",
        "epl_d2/engine/evaluators.py",
        "        trimap=cfg.TEST.BOUNDARY.TRIMAP,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_holds_its_keys_under_their_names",),
    ),
    Mutation(
        "evaluator_without_ignore_value",
        "epl_d2/engine/evaluators.py",
        "        ignore_value=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,\n",
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
        "evaluation_not_made_up",
        "epl_d2/engine/trainer.py",
        "            self._make_up_evaluation()\n",
        "            pass\n",
        (f"{GOING_ON}::test_an_evaluation_that_was_killed_is_made_up",),
    ),
    Mutation(
        "evaluation_made_up_for_no_best_model",
        "epl_d2/engine/trainer.py",
        "isinstance(hook, (hooks.EvalHook, hooks.BestCheckpointer))",
        "isinstance(hook, hooks.EvalHook)",
        (f"{GOING_ON}::test_an_evaluation_that_was_killed_is_made_up",),
    ),
    Mutation(
        "evaluation_made_up_a_step_late",
        "epl_d2/engine/trainer.py",
        "self.iter = self.storage.iter = self.start_iter - 1",
        "self.iter = self.start_iter - 1",
        (f"{GOING_ON}::test_an_evaluation_that_was_killed_is_made_up",),
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
        "mapper, seed, cfg.DATALOADER.MAX_UNREADABLE)",
        "mapper, seed)",
        (f"{KEYS}::test_every_key_changes_what_is_built_from_it",),
    ),
    Mutation(
        "threads_of_all_processes",
        "epl_d2/engine/setup.py",
        "usable_cores() // comm.get_local_size()",
        "usable_cores()",
        ("tests/engine/test_setup.py::test_processes_share_the_cores_that_may_be_used_unless_the_user_says_otherwise",),
    ),
    Mutation(
        "threads_whatever_the_user_says",
        "epl_d2/engine/setup.py",
        ' and "OMP_NUM_THREADS" not in os.environ:',
        ":",
        ("tests/engine/test_setup.py::test_processes_share_the_cores_that_may_be_used_unless_the_user_says_otherwise",),
    ),
    Mutation(
        "evaluator_takes_probabilities_for_logits",
        "epl_d2/engine/evaluators.py",
        "        probabilities=cfg.TEST.AUG.ENABLED or cfg.TEST.WINDOW.ENABLED,\n",
        "",
        (f"{TRAINER}::test_the_evaluator_knows_whether_it_gets_probabilities",),
    ),
    Mutation(
        "bias_of_the_head_at_the_backbones_rate",
        "epl_d2/engine/trainer.py",
        'return head * (cfg.SOLVER.BIAS_LR_FACTOR if name.endswith(".bias") else 1.0)',
        'return cfg.SOLVER.BIAS_LR_FACTOR if name.endswith(".bias") else head',
        (f"{TRAINER}::test_the_optimizer_holds_the_solvers_keys",),
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
    # Masks.
    Mutation(
        "mask_terms_of_the_semantic_head",
        "epl_d2/modeling/losses/epl.py",
        '_build(cfg, cfg.MODEL.EPL.MASK, "MODEL.EPL.MASK", mode="binary")',
        '_build(cfg, cfg.MODEL.EPL, "MODEL.EPL.MASK", mode="binary")',
        (f"{MASK_HEAD}::test_losses_are_the_baselines_and_epl_on_the_masks_of_the_true_classes",),
    ),
    Mutation(
        "mask_epl_without_iteration",
        "epl_d2/modeling/mask_head/conv_upsample.py",
        "mask_epl_losses(self.epl, logits, instances, current_iteration())",
        'mask_epl_losses(self.epl, logits, instances, float("inf"))',
        (f"{MASK_HEAD}::test_terms_follow_the_schedule_and_switch",),
    ),
    Mutation(
        "coarse_mask_epl_without_iteration",
        "epl_d2/modeling/mask_head/point_rend.py",
        "mask_epl_losses(self.epl, coarse[0], cropped, current_iteration())",
        'mask_epl_losses(self.epl, coarse[0], cropped, float("inf"))',
        ("tests/modeling/test_point_rend.py::test_terms_follow_the_schedule_and_switch",),
    ),
    Mutation(
        "epl_on_the_masks_of_the_first_class",
        "epl_d2/modeling/mask_head/mask_losses.py",
        "logits = logits[torch.arange(len(logits), device=logits.device), classes]",
        "logits = logits[torch.arange(len(logits), device=logits.device), 0 * classes]",
        (f"{MASK_HEAD}::test_only_the_masks_of_the_true_classes_get_a_gradient",),
    ),
    Mutation(
        "boundaries_of_crowds",
        "epl_d2/evaluation/instance_boundary.py",
        ' & ~np.array([bool(mask["iscrowd"]) for mask in gt])',
        "",
        (
            "tests/evaluation/test_instance_boundary.py::test_a_prediction_inside_a_crowd_is_passed_over_far_from_its_boundary",
        ),
    ),
    Mutation(
        "boundary_ap_of_the_usual_ratio",
        "epl_d2/engine/evaluators.py",
        "InstanceBoundaryEvaluator(dataset_name, output_dir=output_dir, dilation_ratio=ratio)",
        "InstanceBoundaryEvaluator(dataset_name, output_dir=output_dir)",
        (KEYS,),
    ),
    Mutation(
        "boundary_pq_of_the_usual_ratio",
        "epl_d2/engine/evaluators.py",
        "PanopticBoundaryEvaluator(dataset_name, dilation_ratio=ratio)",
        "PanopticBoundaryEvaluator(dataset_name)",
        ("tests/engine/test_train_masks.py::test_both_evaluators_have_the_configs_ratio",),
    ),
    Mutation(
        "masks_unchecked",
        "epl_d2/data/dataset_check.py",
        "        check_record_masks(records, name)\n",
        "        pass\n",
        ("tests/engine/test_train_masks.py::test_masks_that_do_not_fit_stop_the_training",),
    ),
    # Boundary scores for other frameworks.
    Mutation(
        "metric_states_not_added",
        "epl_d2/metrics/modules.py",
        'torch.from_numpy(values), dist_reduce_fx="sum"',
        'torch.from_numpy(values), dist_reduce_fx="max"',
        ("tests/evaluation/test_metrics.py::test_two_processes_give_the_result_of_one",),
    ),
    Mutation(
        "metrics_share_by_chance",
        "epl_d2/metrics/modules.py",
        "torch.tensor([*settings, *sorted(set(self.empty.widths))])",
        "torch.zeros(1)",
        ("tests/evaluation/test_metrics.py::test_a_collection_keeps_apart_what_is_the_same_in_the_first_batch_alone",),
    ),
    Mutation(
        "compute_without_ignore_mode",
        "epl_d2/metrics/scores.py",
        "widths, ignore_index, ignore_mode, trimap, ignore_distance)",
        'widths, ignore_index, "ignore", trimap, ignore_distance)',
        ("tests/evaluation/test_metrics.py::test_compute_takes_arrays_tensors_and_generators",),
    ),
    # Data sets of one's own, and models that leave them behind.
    Mutation(
        "run_without_the_names_of_its_classes",
        "epl_d2/engine/setup.py",
        "        keep_names_and_colors(cfg)\n",
        "        pass\n",
        ("tests/engine/test_setup.py::test_an_evaluation_keeps_the_names_of_the_training",),
    ),
    Mutation(
        "names_of_the_data_set_before_the_configs",
        "epl_d2/data/class_names.py",
        "tuple(classes) or (found[0] if found else tuple(map(str, range(count))))",
        "found[0] if found else tuple(classes) or tuple(map(str, range(count)))",
        ("tests/data/test_class_names.py::test_those_of_the_config_come_first",),
    ),
    Mutation(
        "epochs_of_the_first_data_set",
        "epl_d2/engine/setup.py",
        "for name in cfg.DATASETS.TRAIN)\n    cfg.SOLVER.MAX_ITER",
        "for name in cfg.DATASETS.TRAIN[:1])\n    cfg.SOLVER.MAX_ITER",
        ("tests/engine/test_setup.py::test_epochs_become_iterations",),
    ),
    Mutation(
        "shares_without_their_seed",
        "epl_d2/data/datasets/pairing.py",
        'f"{self.seed}/{stem}"',
        'f"{stem}"',
        ("tests/data/test_folder.py::test_shares_of_one_folder_follow_the_seed",),
    ),
    Mutation(
        "scored_folders_without_colors",
        "epl_d2/evaluation/prediction_folders.py",
        ", label_colors=pair.target_colors)",
        ")",
        ("tests/evaluation/test_own_data.py::test_predictions_are_scored_by_the_file",),
    ),
    Mutation(
        "weights_not_by_name",
        "epl_d2/checkpoint/checkpointer.py",
        "            path = _named_everywhere(path)\n",
        "            pass\n",
        ("tests/checkpoint/test_pretrained.py::test_a_training_begins_with_them",),
    ),
    Mutation(
        "exported_file_without_names",
        "tools/export_model.py",
        "            metadata=describe(cfg),\n",
        "",
        ("tests/export/test_export_model.py::test_tool",),
    ),
)
