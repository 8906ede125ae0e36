"""A frozen network, computed with less work, while illusions are rendered.

``shortened`` folds batch normalisations into convolutions (``batch_norm``) and computes patches
and self-attention as plain matrix products (``equivalents``). It tries each change on an example,
keeps those that give the same numbers, and takes all back at the end (``swaps``).
``separate_rows`` makes linear layers round alike in any batch.
"""
