"""Train a small ViT (transformers) with accelerate on synthetic textures."""
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from transformers import ViTConfig, ViTForImageClassification, get_cosine_schedule_with_warmup

N_CLASSES = 10


def textures(n, seed):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:24, 0:24]
    labels = rng.integers(0, N_CLASSES, n)
    images = np.empty((n, 3, 24, 24), np.float32)
    for k, c in enumerate(labels):
        angle = np.pi * (c % 5) / 5 + rng.normal(0, 0.07)
        freq = (0.7, 1.3)[c // 5] * rng.uniform(0.93, 1.07)
        wave = np.sin(freq * (xx * np.cos(angle) + yy * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
        tint = rng.uniform(0.4, 1.0, 3)[:, None, None]
        images[k] = tint * wave + rng.normal(0, 0.8, (3, 24, 24))
    return TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))


def build_model():
    config = ViTConfig(
        image_size=24, patch_size=6, num_channels=3, hidden_size=64, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=128, num_labels=N_CLASSES,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    return ViTForImageClassification(config)


def main():
    torch.manual_seed(0)
    epochs, batch_size, lr = 5, 32, 5e-4
    accelerator = Accelerator(cpu=True)
    train_dl = DataLoader(textures(1200, 0), batch_size=batch_size, shuffle=True)
    val_dl = DataLoader(textures(300, 1), batch_size=100)
    model = build_model()
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    no_decay = [p for n, p in model.named_parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}], lr=lr
    )
    total_steps = epochs * len(train_dl)
    scheduler = get_cosine_schedule_with_warmup(
        optimizer, num_warmup_steps=int(0.2 * total_steps), num_training_steps=total_steps
    )
    model, optimizer, train_dl, val_dl, scheduler = accelerator.prepare(
        model, optimizer, train_dl, val_dl, scheduler
    )
    accelerator.print(f"{total_steps} updates, {sum(p.numel() for p in model.parameters())} parameters")

    for epoch in range(1, epochs + 1):
        model.train()
        seen, running = 0, 0.0
        for pixels, labels in train_dl:
            out = model(pixel_values=pixels, labels=labels)
            accelerator.backward(out.loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            running += out.loss.item() * len(labels)
            seen += len(labels)
        scheduler.step()

        model.eval()
        correct = total = 0
        for pixels, labels in val_dl:
            with torch.no_grad():
                logits = model(pixel_values=pixels).logits
            pred, ref = accelerator.gather_for_metrics((logits.argmax(-1), labels))
            correct += (pred == ref).sum().item()
            total += len(ref)
        accelerator.print(f"epoch {epoch}: train loss {running / seen:.4f}  val acc {correct / total:.4f}")


if __name__ == "__main__":
    main()
