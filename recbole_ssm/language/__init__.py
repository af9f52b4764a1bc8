"""What language models have in common that recommend: retrieval of texts, and search among what they may write."""
