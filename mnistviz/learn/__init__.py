"""A digit goes in, a trained model comes out."""
