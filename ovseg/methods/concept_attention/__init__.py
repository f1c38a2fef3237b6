"""ConceptAttention, in one file: `method`."""
