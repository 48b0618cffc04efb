#!/bin/sh
# Every table of ../evidence.md that is drawn from counts, and the README's, with one command: make evidence
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

tables '3. The line loss from the first iteration on' full_schedule --baseline cross_entropy \
    --controls cross_entropy_shifted cross_entropy_lr2 --methods cross_entropy cross_entropy_lr2 cross_entropy_shifted line_first
tables '4. A converged model goes on' finetune --baseline cross_entropy --pool-starts
tables '4. A converged model goes on, precision and recall' finetune --baseline cross_entropy --pool-starts --contours
tables '7. A second model' full_schedule_deeplab --baseline cross_entropy --controls cross_entropy_shifted cross_entropy_lr2
tables '8. Band point, whole schedule' full_schedule --baseline line_first --methods cross_entropy line_first band_point_first
tables '8. Band point, converged models' finetune --baseline line --pool-starts --methods line band_point
for baseline in cross_entropy line_first; do
    tables "9. When to begin, against $baseline" full_schedule --baseline $baseline \
        --methods cross_entropy line_first line_half line_two_thirds line_five_sixths
done
