"""How :func:`render_illusions` works: pairs, batches, scores, steps, and what can go wrong."""
