"""Official StyleGAN-XL network files: pickles that carry source code, read without running or importing any of it.

- `unpickler`: the entries of such a file; `machine`: the opcodes; `allowed`: every name a file may ask for
- `records`: what stands for its objects; `arrays`: numpy's numbers; `storages`: tensors
- `network`: from entries to a network's shape and tensors; `attributes`: its constructor's numbers; `tensors`: its tensors
"""
