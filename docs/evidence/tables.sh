#!/bin/sh
# Every table of ../evidence.md, and those of the README and the model zoo on the same runs, with one command: make evidence
# The folders beside this file hold the counts of single images, as tools/compare_counts.py --store writes them.
set -e
python=${PYTHON:-python}
cd "$(dirname "$0")/../.."

tables() { # TITLE FOLDER OPTIONS...
    title=$1 folder=docs/evidence/$2
    shift 2
    for split in test val; do
        printf '\n## %s: %s\n\n' "$title" "$split"
        "$python" tools/compare_counts.py "$folder" --dataset "camvid_sem_seg_$split" --block 20 --widths 1 3 "$@"
    done
}

tables 'From the first iteration on' full_schedule --baseline cross_entropy \
    --controls cross_entropy_shifted cross_entropy_lr2 --methods cross_entropy cross_entropy_lr2 cross_entropy_shifted line_first
# Val alone: test is not opened before 9600 iterations are finished.
printf '\n## Twice as long, so far: val\n\n'
"$python" tools/compare_counts.py docs/evidence/full_schedule --dataset camvid_sem_seg_val --block 20 --widths 1 3 \
    --baseline cross_entropy_4800 --methods cross_entropy_4800 line_first_4800
tables 'A second model' full_schedule_deeplab --baseline cross_entropy --controls cross_entropy_shifted cross_entropy_lr2
tables 'When to begin' full_schedule --baseline cross_entropy --controls line_first \
    --methods cross_entropy line_first line_half line_two_thirds line_five_sixths
tables 'A converged model goes on; other losses' finetune --baseline cross_entropy --pool-starts --controls cross_entropy_shifted
tables 'A converged model goes on; other losses, precision and recall' finetune --baseline cross_entropy --pool-starts --contours
tables 'The line loss against other losses' finetune --baseline cross_entropy --pool-starts --methods line --controls \
    boundary_f band class_weights lovasz cross_entropy_w1.5 generalized_dice active_boundary boundary
chosen='boundary_f_w1.3 lovasz_w1.8 generalized_dice_w0.51 class_weights_w0.29 band_w1.3 boundary_w0.44 active_boundary_w5.4'
chosen="$chosen generalized_dice_w0.51_shifted class_weights_w0.29_shifted band_w1.3_shifted boundary_w0.44_shifted active_boundary_w5.4_shifted"
tables 'Other losses for a whole schedule' full_schedule --baseline cross_entropy --controls $chosen --methods cross_entropy line_first $chosen
# Sizes that were not chosen: val alone.
printf '\n## Other losses for a whole schedule, sizes that were not chosen: val\n\n'
"$python" tools/compare_counts.py docs/evidence/full_schedule --dataset camvid_sem_seg_val --block 20 --widths 1 3 \
    --baseline cross_entropy --methods boundary_f_w0.5 lovasz_w0.6 class_weights_w0.88 band_w0.48
tables "The target's lines without ranks, whole schedule" full_schedule --baseline line_first --methods cross_entropy line_first band_point_first
tables "The target's lines without ranks, converged models" finetune --baseline line --pool-starts --methods line band_point
for noise in '' _shift_1 _shift_2 _shift_3 _dilate_1 _dilate_2 _dilate_3; do
    printf '\n## Wrong labels%s\n\n' "$noise"
    "$python" tools/compare_counts.py docs/evidence/label_noise --dataset shapes_sem_seg_val --widths 1 3 \
        --baseline "cross_entropy$noise" --methods "cross_entropy$noise" "line$noise"
done
