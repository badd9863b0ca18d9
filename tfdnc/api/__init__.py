"""The Python API that `tfdnc` names: runs, their outputs, and bundles in process."""
