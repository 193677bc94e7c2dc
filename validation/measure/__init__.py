"""What claims measure with: ensembles, learning curves, single steps, and how they are drawn."""
