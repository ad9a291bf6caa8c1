"""Training before conversion: fine-tuning, pruning, distillation. Needs torch."""
