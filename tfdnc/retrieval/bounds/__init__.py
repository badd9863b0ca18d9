"""Bounds on the results with a value of an attribute: from their texts to a list that keeps them."""
