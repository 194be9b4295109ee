"""`python -m ld3m_plugin` is the `ld3m` command."""

from ld3m_plugin.cli import main

main()
