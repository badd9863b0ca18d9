"""The shop's rules: attributes of items as bits, and the items that pass the conditions of every row of a request."""
