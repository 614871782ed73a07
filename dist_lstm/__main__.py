"""`python -m dist_lstm` is `dist-lstm`."""

from dist_lstm.cli.main import main

main()
