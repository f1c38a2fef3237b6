"""Class words: how they are typed, the nouns of a caption, stuff and things, which classes a picture shows."""
