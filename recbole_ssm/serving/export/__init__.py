"""A model in forms that need this package no more: weights and words, graphs, vectors of items."""
