"""The distribution that `ld3m plugins new` writes: a backend of every kind, each as small as a useful one can be."""
