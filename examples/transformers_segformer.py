"""EPL and the boundary scores with SegFormer and the Trainer of transformers: python examples/transformers_segformer.py

The model gets random weights and the data are generated, so that nothing is downloaded.
"""

import tempfile

import torch
import torch.nn.functional as F
from scenes import NUM_CLASSES, Scenes
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainingArguments

from epl_d2.losses import EPLLoss
from epl_d2.metrics import compute


class EPLTrainer(Trainer):
    """Adds EPL to the model's own cross entropy."""

    loss_is_scaled_for_ga = False  # a mean over the batch: to be divided when gradients are accumulated
    epl = EPLLoss(resize_logits=True)  # SegFormer's logits are a quarter of the labels' size

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        contours = sum(self.epl(outputs.logits, inputs["labels"]).values())
        if model.training:
            step = self.state.global_step
            print(f"step {step}: cross entropy {outputs.loss:.3f}, EPL {contours:.3f}")
        loss = outputs.loss + contours
        return (loss, outputs) if return_outputs else loss


def collate(samples):
    images, labels = zip(*samples, strict=True)
    pairs = {"pixel_values": images, "labels": labels}
    return {name: torch.stack([torch.from_numpy(array) for array in arrays]) for name, arrays in pairs.items()}


def predicted_ids(logits, labels):
    """What the Trainer keeps of each batch, instead of the logits."""
    return F.interpolate(logits, size=labels.shape[-2:], mode="bilinear").argmax(1)


def boundary_scores(evaluated):
    return compute(predictions=evaluated.predictions, references=evaluated.label_ids, num_labels=NUM_CLASSES)


def main() -> None:
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=NUM_CLASSES,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 128],
        decoder_hidden_size=64,
        semantic_loss_ignore_index=255,
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=4,
            num_train_epochs=1,
            learning_rate=1e-3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = EPLTrainer(
            SegformerForSemanticSegmentation(config),
            arguments,
            data_collator=collate,
            train_dataset=Scenes(48),
            eval_dataset=Scenes(12, seed=1),
            compute_metrics=boundary_scores,
            preprocess_logits_for_metrics=predicted_ids,
        )
        trainer.train()
        scores = trainer.evaluate()
    print({name: round(scores[f"eval_{name}"], 4) for name in ("mean_iou", "boundary_f_3px", "boundary_iou_3px")})


if __name__ == "__main__":
    main()
