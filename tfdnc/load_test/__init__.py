"""Load on a bundle and its server: the measurements of `tfdnc benchmark serving`."""
