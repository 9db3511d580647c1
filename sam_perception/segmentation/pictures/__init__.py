"""Single pictures: the predictor, and everything in a picture cut up at once."""
