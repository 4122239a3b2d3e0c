"""The native kernels: built once by the C++ compiler of the machine, called through ctypes.

Where no compiler or no AVX-512 with bfloat16 exists the package runs without them; the plain
PyTorch twin of everything here is ``model/transformer.py`` and ``model/attention.py``.
"""
