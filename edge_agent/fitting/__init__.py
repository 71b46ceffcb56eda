"""What a model file does not say, found from labelled pictures."""
