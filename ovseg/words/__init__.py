"""Class words: reading them, the nouns of a caption, stuff or thing, which are present."""
