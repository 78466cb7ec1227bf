"""Print the AVX-512 features that NumPy would use here, to switch them off (make test-hard)."""

import numpy as np

found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
print(" ".join(name for name in found if name.startswith(("AVX512", "X86_V4"))))
