"""Official StyleGAN-XL network files: pickles that carry source code, read without running or importing any of it.

- `limits`: one pass over the opcodes, before anything is built
- `stand_ins`: the names a file may ask for, and the inert objects it gets for them
- `values`: numpy numbers and tensors in a pickle
- `modules`: the attributes of a network's modules; `network`: its shape and tensors
"""
